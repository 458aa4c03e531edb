"""A cluster of many hosts that carry all that they should: each a directory, with the real host.sh behind a real sshd."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hardway import pod_ranges, render
from hardway.components import ALL, installed
from hardway.desired import Blob, Content, File, Part, Roll, Secret, Text
from hardway.inventory import Host, Inventory, load
from hardway.pki import declared, issue
from hardway.pki.credentials import credentials
from hardway.push import objects, roll
from hardway.remote.channel import Line
from hardway.remote.cluster import Cluster
from hardway.remote.machine import Machine
from hardway.remote.ssh import line
from hardway.state import State
from tests.remote.fakehost import FakeHost
from tests.remote.sshd import Sshd
from tests.remote.test_machine import ME

ROOT = Path(__file__).parents[2]
SHIPPED = load(ROOT / "inventory.yaml")
DECLARED = declared.load(ROOT / "certs")


def inventory(workers: int) -> Inventory:
    """Three controllers, a balancer and so many workers, on machines of one's own."""
    first = IPv4Address("10.240.0.20")
    some = tuple(Host(name=f"worker-{n}", address=first + n, roles=frozenset({"worker"})) for n in range(1, workers + 1))
    found = replace(SHIPPED, lab=None, hosts=(*SHIPPED.on("loadbalancer", "controller"), *some))
    return pod_ranges.placed(found, pod_ranges.allot(found, {}))


@dataclass(slots=True, kw_only=True)
class Site:
    """The hosts of an inventory, and what their operator has."""

    base: Path
    inventory: Inventory
    reach: Callable[[Host], Line] | None = None  # if not directly
    shell: str = "dash"  # with {base} for the host's own directory
    fakes: dict[str, FakeHost] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)

    @classmethod
    def made(cls, base: Path, wanted: Inventory) -> Site:
        """Every host as a push leaves it."""
        issue.ensure(DECLARED, wanted, State(base / "state"), datetime.now(UTC))
        site = cls(base=base, inventory=wanted)
        for host in wanted.hosts:
            (base / host.name).mkdir()
            site.fakes[host.name] = FakeHost(base=base / host.name)
        with site.cluster() as cluster:
            facts = cluster.machine(wanted.hosts[0]).observe(frozenset()).facts
            for host in wanted.hosts:
                parts = render.parts(wanted, host, facts, cluster.credentials, site.programs(facts.arch))
                _fill(site.fakes[host.name], [file for part in parts for file in part.files])
                for component in installed(wanted, host):
                    site.fakes[host.name].unit(component.unit)
        return site

    @property
    def state(self) -> State:
        return State(self.base / "state")

    @contextmanager
    def cluster(self) -> Iterator[Cluster]:
        """A run of a verb: connections of its own."""
        machines = {host.name: self.machine(host) for host in self.inventory.hosts}
        cluster = Cluster(self.inventory, credentials(DECLARED, self.inventory, self.state), machines, lambda: Secret(b""))
        try:
            yield cluster
        finally:
            cluster.close()

    def machine(self, host: Host) -> Machine:
        fake = self.fakes[host.name]
        return Machine(
            name=host.name, line=self.reach(host) if self.reach else fake, root=str(fake.root), shell=self.shell.format(base=fake.base)
        )

    def programs(self, arch: str) -> Mapping[str, Blob]:
        """Binaries of a few bytes."""
        for name in {name for component in ALL for name in component.programs} if not self.blobs else ():
            path = self.base / f"{arch}-{name}"
            path.write_text(name)
            self.blobs[name] = Blob(sha256=hashlib.sha256(name.encode()).hexdigest(), size=len(name), local=path)
        return self.blobs


def alone(patch: pytest.MonkeyPatch) -> None:
    """Without an API: nothing in the cluster differs, and a component is up as soon as its host says so. Files are whose the tests are."""
    rendered = render.parts
    patch.setattr(objects, "survey", lambda _: objects.Found(changes=()))
    patch.setattr(roll, "ALL", tuple(replace(one, roll=Roll(at_once=one.roll.at_once)) for one in ALL))

    def mine(*given: object) -> tuple[Part, ...]:
        parts: tuple[Part, ...] = rendered(*given)  # type: ignore[arg-type]
        return tuple(replace(part, files=tuple(replace(file, owner=ME) for file in part.files)) for part in parts)

    patch.setattr(render, "parts", mine)


def over(sshd: Sshd) -> Callable[[Host], Line]:
    """Every host over SSH, found as an operator's own machines are: one sshd, to which each has a connection of its own."""
    config = sshd.base / "config"
    config.touch()
    ssh = sshd.host(host="127.0.0.1", key=sshd.identity).ssh
    return lambda host: line(replace(host, ssh=ssh), identity=None, known_hosts=sshd.known_hosts, config=config)


def _fill(fake: FakeHost, files: list[File[Content]]) -> None:
    """Write what a push would, and what it notes of it."""
    (fake.root / "var/lib/hardway").mkdir()
    rows = {}
    for file in files:
        data = file.content.text.encode() if isinstance(file.content, Text) else b""
        data = file.content.data if isinstance(file.content, Secret) else data
        data = file.content.local.read_bytes() if isinstance(file.content, Blob) else data
        at = fake.path(file.path)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(data)
        at.chmod(file.mode)
        rows[file.path] = f"{file.path}\t{_key(at.stat())}\t{hashlib.sha256(data).hexdigest()}\n"
    (fake.root / "var/lib/hardway/managed").write_text("".join(rows[path] for path in sorted(rows)))


def _key(stat: os.stat_result) -> str:
    changed = ":".join(f"{ns // 10**9}.{ns % 10**9:09d}" for ns in (stat.st_mtime_ns, stat.st_ctime_ns))
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{changed}"
