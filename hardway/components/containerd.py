"""containerd: the container runtime, with runc and the plugins that give Pods their network."""

from __future__ import annotations

from pathlib import PurePosixPath

from hardway.components.daemon import PROGRAMS, Draft, daemon, tool, unit
from hardway.components.images import reference
from hardway.components.node import node
from hardway.desired import Component, File, Gate, Live, Needs, Pickup, Program, Roll, Template, Trace, Use
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

UNIT = "containerd.service"
SOCKET = "/run/containerd/containerd.sock"
STREAM_PORT = 10010  # on the loopback address
PLUGINS = ("bridge", "host-local", "loopback", "portmap")


def answers(live: Live, host: Host) -> str | None:
    """None if the runtime answers over CRI and has a network for Pods, where it is ours to give; else why not."""
    try:
        said = live.run(host, str(PROGRAMS / "crictl"), "info", "-o", "go-template", "--template", CONDITIONS)
    except Mistake as mistake:
        return str(mistake)
    conditions = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    wanted = ("RuntimeReady", "NetworkReady") if live.inventory.network == "bridge" else ("RuntimeReady",)
    failed = [name for name in wanted if conditions.get(name) != "true"]
    return f"{', '.join(failed)} is not true" if failed else None


def version(live: Live, host: Host) -> str:
    """What the runtime says it is, by its Node."""
    return str(node(live, host)["status"]["nodeInfo"]["containerRuntimeVersion"]).removeprefix("containerd://")


CONDITIONS = '{{range .status.conditions}}{{.type}}={{.status}}{{"\\n"}}{{end}}'


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a worker carries of the runtime."""
    # cgroup v2 is systemd's to share out; on v1, where the kubelet would have to be asked first, both use cgroupfs.
    values = {"sandbox": reference(inventory, "pause"), "systemd_cgroup": facts.cgroup == 2, "stream_port": STREAM_PORT}
    network = (
        File(
            path=PurePosixPath("/etc/cni/net.d/10-bridge.conflist"),
            content=Template(source="templates/containerd/bridge.conflist", values={"mtu": facts.mtu}),
            uses=(Use(reader=UNIT, pickup=Pickup.WATCH),),
        ),
        *(_run(plugin, PurePosixPath("/opt/cni/bin")) for plugin in PLUGINS),
    )
    return (
        daemon("containerd"),
        _run("containerd-shim-runc-v2"),
        _run("runc"),
        File(
            path=PROGRAMS / "ctr",
            content=Program("ctr"),
            uses=tuple(Use(reader=reader, pickup=Pickup.HANDSHAKE) for reader in ("ctr", "preloaded-images.service")),
            mode=0o755,
        ),
        tool("crictl"),
        File(
            path=PurePosixPath("/etc/containerd/config.toml"),
            content=Template(source="templates/containerd/config.toml", values=values),
            uses=(Use(reader=UNIT, pickup=Pickup.RESTART),),
        ),
        File(
            path=PurePosixPath("/etc/crictl.yaml"),
            content=Template(source="templates/containerd/crictl.yaml", values={"socket": SOCKET}),
            uses=(Use(reader="crictl", pickup=Pickup.HANDSHAKE),),
        ),
        *(network if inventory.network == "bridge" else ()),
        unit("containerd", inventory),
    )


def _run(program: str, directory: PurePosixPath = PROGRAMS) -> Draft:
    """A program that the runtime runs anew for each container."""
    return File(path=directory / program, content=Program(program), uses=(Use(reader=UNIT, pickup=Pickup.HANDSHAKE),), mode=0o755)


def needs(inventory: Inventory) -> Needs:
    """What a node has to have for it."""
    network = (PurePosixPath("/etc/cni/net.d"), PurePosixPath("/sys/class/net/cni0"))
    return Needs(
        ports=(STREAM_PORT,),
        memory=80,
        controllers=("cpu", "cpuset", "memory", "pids"),
        new=(PurePosixPath("/var/lib/containerd"), *(network if inventory.network == "bridge" else ())),
    )


# What the containers of its Pods leave too, as they outlive it.
LEAVES = (
    Trace("processes", "containerd-shim-runc-v2"),
    Trace("namespaces", "cni-"),
    Trace("interface", "cni0"),
    Trace("table", "ip cni_hostport"),
    Trace("table", "ip6 cni_hostport"),
    Trace("directory", "/var/lib/containerd"),
    Trace("directory", "/run/containerd"),
    Trace("directory", "/var/lib/cni"),
    Trace("directory", "/opt/containerd"),
    Trace("directory", "/run/nri"),
)

COMPONENT = Component(
    name="containerd",
    leaves=LEAVES,
    on=("worker",),
    files=files,
    programs=("containerd", "containerd-shim-runc-v2", "runc", "ctr", "crictl", *PLUGINS),
    needs=needs,
    version=version,
    roll=Roll(at_once=4, gates=(Gate(name="answers", ask=answers, within=60, command=True),)),
)
