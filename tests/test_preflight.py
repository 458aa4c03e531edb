"""Each finding is seen to appear, and docs/preflight.md has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from hardway import preflight
from hardway.components import installed
from hardway.errors import Finding
from hardway.inventory import Endpoint, Host, Inventory, load
from hardway.observed import Facts, Ground, Listener, Observed, Setting, UnitState
from hardway.preflight import Case

ROOT = Path(__file__).parents[1]
INVENTORY = load(ROOT / "inventory.yaml")
CONTROLLER, WORKER = INVENTORY.on("controller")[0], INVENTORY.on("worker")[0]
UP = UnitState(active="active", sub="running", enabled=True, invocation="1", restarts=0)


def well(host: Host, inventory: Inventory = INVENTORY) -> Case:
    """A fresh host on which nothing is wrong."""
    mine = installed(inventory, host)
    asked = preflight.asked(inventory, mine)
    facts = Facts(
        arch="amd64",
        cgroup=2,
        systemd=252,
        boot_id="b",
        clock=1000.0,
        disk_free=1 << 40,
        memory=1 << 34,
        programs=frozenset(asked.programs),
    )
    ground = Ground(
        kernel="6.1.0-18-amd64",
        hostname=host.name,
        machine_id=f"m-{host.name}",
        product_uuid=f"u-{host.name}",
        controllers=frozenset({"cpu", "cpuset", "io", "memory", "pids"}),
        networks=(IPv4Network("10.240.0.0/24"),),
        addresses=frozenset({IPv4Address("127.0.0.1"), host.address}),
        modules=frozenset(asked.modules),
        settings={name: Setting(value="0", writable=True) for name in asked.settings},
        names=frozenset({host.name, *asked.names}),
    )
    return Case(inventory=inventory, host=host, components=mine, observed=Observed(facts=facts, ground=ground), asked=998.0, now=1000.0)


def facts(case: Case, **changes: Any) -> Case:
    return replace(case, observed=replace(case.observed, facts=replace(case.observed.facts, **changes)))


def ground(case: Case, **changes: Any) -> Case:
    return replace(case, observed=replace(case.observed, ground=replace(case.ground, **changes)))


def seen(case: Case, **changes: Any) -> Case:
    return replace(case, observed=replace(case.observed, **changes))


def paths(case: Case, *there: str) -> Case:
    return ground(case, paths=frozenset(map(PurePosixPath, there)))


def taken(case: Case, **by: Any) -> Case:
    return ground(case, listeners=(Listener(port=10250, **by),))


NAMED = replace(INVENTORY, endpoint=Endpoint(loadbalancer="haproxy", address=IPv4Address("10.240.0.10"), name="api.example.com"))
BRIDGED = "net.bridge.bridge-nf-call-iptables"

# What is wrong -> the one line that is said. The first word of a case is the section of the page.
CASES: dict[str, tuple[Case, str]] = {
    "system user": (ground(well(WORKER), user=1000), "we are user 1000 there, not root"),
    "system systemd": (facts(well(WORKER), systemd=246), "systemd 246 is too old"),
    "system kernel": (ground(well(WORKER), kernel="5.10.0-28-amd64"), "its kernel is 5.10.0-28-amd64"),
    "system clock": (facts(well(WORKER), clock=1090.0), "its clock is +90 s off ours"),
    "system restore": (seen(well(CONTROLLER), restoring="1 cafe 1000 one.db"), "etcd is being restored from one.db, or that was cut short"),
    "system clock, a little": (facts(well(WORKER), clock=1005.0), "its clock is +5 s off ours"),
    "system clock, behind": (facts(well(WORKER), clock=990.0), "its clock is -8 s off ours"),
    "system data": (
        paths(
            seen(well(CONTROLLER), managed=frozenset({PurePosixPath("/etc/systemd/system/etcd.service")})),
            "/var/lib/hardway/proved/etcd.service",
        ),
        "etcd has run here, and /var/lib/etcd/member/wal is gone",
    ),
    "room disk": (facts(well(WORKER), disk_free=1 << 30), "1024 MiB free under /var/lib"),
    "room memory": (facts(well(CONTROLLER), memory=512 << 20), "it has 512 MiB of memory"),
    "programs package": (facts(well(WORKER), programs=frozenset({"ip", "conntrack", "kmod"})), "nft is not installed"),
    "kernel module": (ground(well(WORKER), modules=well(WORKER).ground.modules - {"overlay"}), "its kernel has no overlay"),
    "kernel absent": (ground(well(WORKER), settings={}), "its kernel has no net.ipv4.ip_forward"),
    "kernel setting": (
        ground(well(WORKER), settings={**well(WORKER).ground.settings, BRIDGED: Setting(value="0", writable=False)}),
        f"{BRIDGED} is 0 and cannot be changed",
    ),
    "groups memory": (ground(well(WORKER), controllers=frozenset({"cpu", "cpuset", "pids"})), "control groups without memory"),
    "groups several": (ground(well(WORKER), controllers=frozenset({"cpu", "memory"})), "control groups without cpuset, pids"),
    "groups version": (facts(well(WORKER), cgroup=1), "its control groups are of version 1, which Kubernetes is giving up"),
    "swap": (ground(well(WORKER), swap=("/dev/sda2",)), "swap is on (/dev/sda2), and kubelet does not start with it"),
    "ports known": (
        taken(well(WORKER), process=812, program="nginx", unit="nginx.service"),
        "port 10250 of kubelet is taken by nginx (process 812, nginx.service)",
    ),
    "ports unknown": (taken(well(WORKER)), "port 10250 of kubelet is taken by another program"),
    "network address": (ground(well(WORKER), addresses=frozenset({IPv4Address("10.0.0.1")})), "10.240.0.21 is not an address of its own"),
    "network shared": (
        ground(well(CONTROLLER), networks=(IPv4Network("10.0.0.0/24"),)),
        "it has no network in common with worker-1, worker-2, so no route to Pods there",
    ),
    "names own": (ground(well(WORKER), names=frozenset()), "it does not resolve its own name worker-1"),
    "names endpoint": (ground(well(WORKER, NAMED), names=frozenset({"worker-1"})), "it does not resolve the endpoint api.example.com"),
    "leftovers kubeadm": (
        paths(well(WORKER), "/etc/kubernetes/manifests"),
        "/etc/kubernetes/manifests is there: of another cluster, by kubeadm",
    ),
    "leftovers data": (paths(well(CONTROLLER), "/var/lib/etcd"), "/var/lib/etcd is there before etcd is: of another cluster"),
    "leftovers bridge": (
        paths(well(WORKER), "/sys/class/net/cni0"),
        "/sys/class/net/cni0 is there before containerd is: of another cluster",
    ),
    "leftovers unit": (
        paths(well(WORKER), "/lib/systemd/system/kubelet.service"),
        "another kubelet is installed: /lib/systemd/system/kubelet.service",
    ),
}


@pytest.mark.parametrize("clock", [996.0, 997.0, 999.0, 1001.0, 1002.0])
def test_a_clock_that_may_have_been_right_when_it_was_asked_is(clock: float) -> None:
    """It was asked between 998 and 1000, and a slow answer is no wrong clock."""
    assert preflight.findings([facts(well(WORKER), clock=clock)]) == ()


def test_data_that_was_never_there_is_not_lost() -> None:
    managed = seen(well(CONTROLLER), managed=frozenset({PurePosixPath("/etc/systemd/system/etcd.service")}))
    assert preflight.findings([managed]) == ()
    assert preflight.findings([paths(managed, "/var/lib/hardway/proved/etcd.service", "/var/lib/etcd/member/wal")]) == ()
    up = seen(paths(managed, "/var/lib/hardway/proved/etcd.service"), units={"etcd.service": UP})
    assert preflight.findings([up]) == ()  # of a host that runs, no paths are asked


def test_data_that_most_members_have_lost_comes_out_of_a_snapshot() -> None:
    """A member joins the others while they are a quorum; what two of three have lost, no other member can give them."""
    lost = [paths(well(host), "/var/lib/hardway/proved/etcd.service") for host in INVENTORY.on("controller")]
    page = (ROOT / "docs" / "preflight.md").read_text()

    (one,) = preflight.findings([lost[1], well(CONTROLLER)])
    two = preflight.findings(lost[1:])

    assert one.next_step.endswith("./inv etcd.rejoin controller-2")
    assert [finding.where for finding in two] == ["controller-2", "controller-3"]
    assert all(finding.next_step.startswith("put a snapshot back on all members") and row(finding) in page for finding in two)


def only(case: Case) -> Finding:
    (finding,) = preflight.findings([case])
    return finding


@pytest.mark.parametrize("host", INVENTORY.hosts, ids=lambda host: host.name)
def test_nothing_is_said_of_a_host_on_which_nothing_is_wrong(host: Host) -> None:
    assert preflight.findings([well(host)]) == ()


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told_with_its_remedy_and_the_page_has_it(name: str) -> None:
    case, what = CASES[name]
    finding = only(case)
    assert (finding.where, finding.what) == (case.host.name, what)
    assert finding.warning == (name in {"groups version", "names own", "system clock, a little", "system clock, behind"})
    assert row(finding) in (ROOT / "docs" / "preflight.md").read_text()


def row(finding: Finding) -> str:
    assert finding.next_step
    return f"| {finding.what} | {'warning' if finding.warning else 'error'} | {finding.next_step} |"


def test_hosts_made_from_one_image_are_told_and_go_on() -> None:
    one, other = (ground(well(host), machine_id="m", product_uuid="u") for host in INVENTORY.on("worker"))
    found = preflight.findings([one, other])
    assert [(f.where, f.what, f.warning) for f in found] == [
        ("worker-1, worker-2", "they share one machine-id, m", True),
        ("worker-1, worker-2", "they share one product_uuid, u", True),
    ]
    page = (ROOT / "docs" / "preflight.md").read_text()
    assert all(row(finding) in page for finding in found)
    assert len(preflight.findings([facts(one, container=True), facts(other, container=True)])) == 1  # one firmware for a whole lab


def test_every_finding_of_every_host_is_told_at_once() -> None:
    worse = [paths(ground(facts(well(host), disk_free=0), swap=("/dev/sda2",)), "/var/lib/kubelet") for host in INVENTORY.on("worker")]
    found = preflight.findings(worse)
    assert [finding.where for finding in found] == ["worker-1"] * 3 + ["worker-2"] * 3
    assert [finding.where for finding in preflight.merged(found)] == ["worker-1, worker-2"] * 3


def test_what_a_module_brings_may_come_with_it() -> None:
    settings = {name: setting for name, setting in well(WORKER).ground.settings.items() if not name.startswith("net.bridge.")}
    assert preflight.findings([ground(well(WORKER), settings=settings)]) == ()


def test_a_setting_that_is_right_need_not_be_changed() -> None:
    assert (
        preflight.findings(
            [ground(well(WORKER), settings={name: Setting(value="1", writable=False) for name in well(WORKER).ground.settings})]
        )
        == ()
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda case: seen(case, units={"kubelet.service": UP}),
        lambda case: seen(case, managed=frozenset({PurePosixPath("/etc/systemd/system/kubelet.service")})),
    ],
    ids=["its unit runs", "its unit is ours and is about to start"],
)
def test_a_port_that_our_own_unit_holds_is_not_taken(change: Callable[[Case], Case]) -> None:
    assert preflight.findings([change(taken(well(WORKER), process=1, program="kubelet", unit="kubelet.service"))]) == ()


def test_a_port_that_our_own_unit_held_when_it_ended_at_that_moment_is_not_taken() -> None:
    between = UnitState(active="activating", sub="auto-restart", enabled=True, invocation="", restarts=7)
    gone = seen(taken(well(WORKER)), units={"kubelet.service": between})
    named = seen(taken(well(WORKER), process=812, program="nginx", unit="nginx.service"), units={"kubelet.service": between})

    assert preflight.findings([gone]) == ()
    assert [finding.what for finding in preflight.findings([named])] == [
        "port 10250 of kubelet is taken by nginx (process 812, nginx.service)"
    ]


def test_what_our_own_components_have_made_is_no_leftover() -> None:
    managed = frozenset(PurePosixPath(f"/etc/systemd/system/{component.unit}") for component in installed(INVENTORY, WORKER))
    there = paths(well(WORKER), "/var/lib/kubelet", "/var/lib/containerd", "/sys/class/net/cni0", "/etc/cni/net.d")
    assert preflight.findings([seen(there, managed=managed)]) == ()


def test_where_all_runs_nothing_but_what_still_breaks_it_stops_a_push() -> None:
    units = {component.unit: UP for component in installed(INVENTORY, WORKER)}
    broken = seen(ground(facts(well(WORKER), disk_free=0, clock=0.0), swap=("/dev/sda2",), modules=frozenset()), units=units)
    assert [(f.what, f.warning) for f in preflight.findings([broken])] == [
        ("its clock is -998 s off ours", False),
        ("0 MiB free under /var/lib", True),
        ("swap is on (/dev/sda2), and kubelet does not start with it", True),
    ]


def test_only_who_carries_a_worker_needs_what_workers_need() -> None:
    bare = facts(ground(well(CONTROLLER), swap=("/dev/sda2",), controllers=frozenset()), cgroup=1)
    assert preflight.findings([bare]) == ()


def test_networks_of_the_operators_own_are_not_judged() -> None:
    inventory = replace(INVENTORY, network="none")
    there = ground(well(WORKER, inventory), networks=(IPv4Network("10.0.0.0/24"),))
    assert preflight.findings([paths(there, "/etc/cni/net.d")]) == ()
