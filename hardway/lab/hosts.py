"""The hosts of a lab, all together: made and booted, waited for, looked at, taken down.

They are root-equivalent on the machine that runs them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.lab import cgroups, image, keys, kvm, network, recipes, requirements
from hardway.lab.container import Container
from hardway.lab.machine import Lab, Machine, Process
from hardway.lab.place import NSPAWN, Files, Place
from hardway.lab.vm import VM

Tell = Callable[[str], None]
PATIENCE = {"nspawn": 120.0, "qemu": 300.0}  # seconds until SSH answers; an emulated kernel on a busy machine takes its time


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One host of the lab."""

    name: str
    address: IPv4Address | None  # None: it is no longer in the inventory
    state: Literal["down", "booting", "up"]  # up: SSH answers
    pid: int | None = None  # of its keeper


def cache() -> Path:
    """Where images are kept: outside the repository, shared by all labs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardway" / "lab"


def key(state: Path) -> Path:
    """The private key that the lab's hosts let in."""
    return state / "lab" / "id_ed25519"


def up(inventory: Inventory, state: Path, tell: Tell, *, owner: int | None = None) -> None:
    """Make every host of the inventory answer over SSH; hosts that do so already are left alone."""
    requirements.check(inventory)
    with _alone(state, tell):
        make = _makers(inventory, state, tell)
        lab = _enter(inventory, state, owner)
        public = keys.ensure(key(state), f"hardway lab {inventory.cluster}")
        (state / "lab" / "keys").mkdir(mode=0o700, exist_ok=True)
        host_keys = [(host, keys.ensure(state / "lab" / "keys" / host.name, host.name)) for host in inventory.hosts]
        keys.write_known(state / "known_hosts", host_keys)
        for host in inventory.hosts:
            made = make[inventory.made_by(host)](Place(lab=lab, name=host.name), host)
            made.start(f"{host.address}/{lab.network.prefixlen}", _files(inventory, host, state, public), tell)
        for name in sorted(_hosts(lab) - {host.name for host in inventory.hosts}):
            tell(f"{name}: is no longer in the inventory, and left alone; `lab.down` removes it")
        _wait(inventory, lab, tell)


def down(inventory: Inventory | str, state: Path, tell: Tell) -> None:
    """Remove every trace of a lab from the machine; its SSH keys stay in state/."""
    cluster = inventory if isinstance(inventory, str) else inventory.cluster
    requirements.named(cluster)
    if not (state / "lab").exists() and Machine().lab(cluster) is None:
        return
    requirements.privileged()
    with _alone(state, tell):
        lab = Machine().lab(cluster)
        if lab is not None:
            _same(lab, state)
            for name in sorted(_hosts(lab)):
                Place(lab=lab, name=name).stop()
                tell(f"{name}: stopped")
        groups = lab.cgroups if lab else cgroups.places(f"hardway-{cluster}")
        cgroups.empty(groups)  # all of it, even if the register was lost
        for group in groups:
            cgroups.remove(group)
        network.remove(network.device(cluster))
        for directory in (NSPAWN / "propagate", NSPAWN / "locks", NSPAWN):
            with suppress(OSError):  # somebody else's containers are there
                directory.rmdir()
        if (state / "lab" / "hosts").exists():
            shutil.rmtree(state / "lab" / "hosts")
        with Machine().locked():
            restored = Machine().leave(cluster)
        if restored:
            tell(f"lab: put back {', '.join(restored)}")
        for directory in (state / "lab", state):
            with suppress(OSError):  # the keys are there
                directory.rmdir()


def status(inventory: Inventory, state: Path) -> tuple[Status, ...]:
    """How each host of the lab stands."""
    lab = Machine().lab(inventory.cluster)
    if lab is not None and lab.state != state.resolve():
        lab = None
    known = {host.name: host for host in inventory.hosts}
    names = [*known, *(sorted(_hosts(lab) - known.keys()) if lab else ())]
    found = []
    for name in names:
        process = Place(lab=lab, name=name).keeper if lab else None
        host = known.get(name)
        answers = process is not None and host is not None and _banner(host)
        found.append(
            Status(
                name=name,
                address=host.address if host else None,
                state="down" if process is None else "up" if answers else "booting",
                pid=process.pid if process else None,
            )
        )
    return tuple(found)


def reap(tell: Tell) -> None:
    """Take down every lab whose owner, such as a test run, is gone."""
    for lab in Machine().labs():
        if lab.owner is not None and not lab.owner.runs:
            tell(f"lab: {lab.cluster} has lost its owner")
            down(lab.cluster, lab.state, tell)


@contextmanager
def _alone(state: Path, tell: Tell) -> Iterator[None]:
    """One command at a time works on a lab."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / "lab").mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(state / "lab", os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("lab: another command is at work here; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _same(lab: Lab, state: Path) -> None:
    if lab.state != state.resolve() and lab.state.exists():
        raise Mistake.at("cluster", f"the lab {lab.cluster} was made from {lab.state}", "take it down from there, or choose another name")


def _makers(inventory: Inventory, state: Path, tell: Tell) -> Mapping[str, Callable[[Place, Host], Container | VM]]:
    """How each kind of host that the inventory asks for is made, from images that are there."""
    kinds = {inventory.made_by(host) for host in inventory.hosts}
    make: dict[str, Callable[[Place, Host], Container | VM]] = {}
    if "nspawn" in kinds:
        root = image.ensure(recipes.CONTAINER, cache(), tell)
        make["nspawn"] = lambda place, _: Container(place=place, image=root)
    if "qemu" in kinds:
        disk = image.ensure(recipes.VM, cache(), tell)
        accelerator = kvm.accelerator(cache(), disk / "vmlinuz", tell)
        make["qemu"] = lambda place, host: VM(place=place, image=disk, accelerator=accelerator, login=ssh(host, state))
    return make


def _enter(inventory: Inventory, state: Path, owner: int | None) -> Lab:
    """Write the lab down, then make its bridge and control groups."""
    cluster, cidr = inventory.cluster, inventory.networks.host_cidr
    if cidr is None:
        raise AssertionError
    with Machine().locked():
        lab = Machine().lab(cluster)
        if lab is not None:
            _same(lab, state)
            if lab.network != cidr:
                raise Mistake.at("networks.host_cidr", f"the lab runs with {lab.network}", "`lab.down` first, then `lab.up`")
        for other in Machine().labs():
            if other.cluster != cluster and other.network.overlaps(cidr):
                what = f"{cidr} overlaps {other.network} of the lab {other.cluster}"
                raise Mistake.at("networks.host_cidr", what, "choose another network for the lab")
        network.check(cluster, cidr)
        groups = lab.cgroups if lab and all(group.parent.exists() for group in lab.cgroups) else cgroups.places(f"hardway-{cluster}")
        lab = Lab(
            cluster=cluster,
            state=state.resolve(),
            network=cidr,
            cgroups=groups,
            owner=Process.of(owner) if owner else lab.owner if lab else None,
        )
        Machine().enter(lab)
        if network.bridge(cluster, cidr):
            for name in _hosts(lab):
                Place(lab=lab, name=name).attach()
    for group in lab.cgroups:
        cgroups.make(group)
    return lab


def _hosts(lab: Lab) -> set[str]:
    records = Machine().records(lab.cluster)
    return {file.name for file in records.iterdir() if file.suffix not in {".json", ".part"}} if records.is_dir() else set()


def _files(inventory: Inventory, host: Host, state: Path, public: str) -> Files:
    """What the provider puts on a host, beside its image."""
    names = [f"{other.address} {other.name}" for other in inventory.hosts]
    if inventory.endpoint.name:
        names.append(f"{inventory.endpoint.address} {inventory.endpoint.name}")
    private = state / "lab" / "keys" / host.name
    let_in = [public]
    if host.ssh.key and (own := host.ssh.key.with_name(host.ssh.key.name + ".pub")).exists():
        let_in.append(own.read_text().strip())
    return {
        "etc/hostname": (f"{host.name}\n", 0o644),
        "etc/hosts": ("\n".join(["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", *names, ""]), 0o644),
        "etc/ssh/ssh_host_ed25519_key": (private.read_text(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (private.with_name(private.name + ".pub").read_text(), 0o644),
        "etc/ssh/sshd_config.d/port.conf": (f"Port {host.ssh.listens}\n", 0o644),
        "root/.ssh/authorized_keys": ("\n".join([*let_in, ""]), 0o600),
    }


def _banner(host: Host, timeout: float = 1) -> bool:
    """Whether an SSH server greets there."""
    try:
        with socket.create_connection((str(host.address), host.ssh.listens), timeout=timeout) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _wait(inventory: Inventory, lab: Lab, tell: Tell) -> None:
    began = time.monotonic()
    enough = threading.Event()

    def answers(host: Host) -> Finding | None:
        place, within = Place(lab=lab, name=host.name), PATIENCE[inventory.made_by(host)]
        log = place.directory / "console.log"
        while not _banner(host):
            kept = place.keeper is not None
            if enough.wait(0.1) or time.monotonic() > began + within or not kept:
                last = " / ".join([line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()][-4:])
                what = "does not boot" if not kept else f"SSH does not answer after {within:.0f} s"
                return Finding(where=host.name, what=f"{what}: {last}", next_step=f"see {log}")
        tell(f"{host.name}: SSH answers")
        return None

    with ThreadPoolExecutor(max_workers=len(inventory.hosts)) as pool:
        try:
            failed = [finding for finding in pool.map(answers, inventory.hosts) if finding]
        except KeyboardInterrupt:
            enough.set()
            raise
    if failed:
        raise Mistake(*failed)


def ssh(host: Host, state: Path) -> list[str]:
    """The command that logs in to a lab host with the lab's key, and checks the host's."""
    names = {"UserKnownHostsFile": state / "known_hosts", "IdentityFile": key(state)}
    # ssh_config(5): a blank begins another name, and % a token.
    files = [word for option, path in names.items() for word in ("-o", f'{option}="{str(path).replace("%", "%%")}"')]
    options = ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-p", str(host.ssh.listens)]
    return ["ssh", *files, *options, f"root@{host.address}"]
