"""Three bare hosts and the real engine: plans, host.sh, locks, gates. Only systemd's programs are stand-ins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from hardway.desired import Component, Content, File, Gate, Live, Part, Pickup, Roll, Secret, Text, Use
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.observed import Observed
from hardway.plan import compare
from hardway.push import Survey, push, roll, settled
from hardway.remote.channel import Line
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.remote.machine import Machine
from tests.remote.fakehost import FakeHost
from tests.remote.test_machine import ME

ROOT = Path(__file__).parents[2]
INVENTORY = load(ROOT / "inventory.yaml")
HOSTS = INVENTORY.on("controller")
UNIT = "kube-scheduler.service"
CONFIG, LEAF = PurePosixPath("/etc/kubernetes/kube-scheduler/config.yaml"), PurePosixPath("/etc/kubernetes/kube-scheduler/leaf.pem")

Wanted = Mapping[PurePosixPath, bytes]
OLD: Wanted = {CONFIG: b"old\n", LEAF: b"old key\n"}
NEW: Wanted = {CONFIG: b"new\n", LEAF: b"new key\n"}


@dataclasses.dataclass
class Fleet:
    """The controllers of the shipped inventory, each a directory; reached by `reach`, else directly."""

    base: Path
    patch: pytest.MonkeyPatch
    reach: Callable[[Host], Line] | None = None
    inventory: Inventory = INVENTORY
    told: list[str] = dataclasses.field(default_factory=list)
    ask: Callable[[Live, Host], str | None] = lambda _live, _host: None

    def __post_init__(self) -> None:
        self.hosts = {}
        for host in HOSTS:
            (self.base / host.name).mkdir(exist_ok=True)
            self.hosts[host.name] = FakeHost(base=self.base / host.name)
            self.hosts[host.name].unit(UNIT)
        self.machines = {host.name: self.connected(host) for host in HOSTS}

    def connected(self, host: Host) -> Machine:
        """A machine of another connection."""
        fake = self.hosts[host.name]
        return Machine(name=host.name, line=self.reach(host) if self.reach else fake, root=str(fake.root), heartbeat=0.05)

    def again(self) -> None:
        """As by another run."""
        self.close()
        self.machines = {host.name: self.connected(host) for host in HOSTS}

    def close(self) -> None:
        for machine in self.machines.values():
            machine.close()

    def machine(self, host: Host) -> Machine:
        return self.machines[host.name]

    @contextmanager
    def lock(self, hosts: tuple[Host, ...], doing: str) -> Iterator[object]:
        with Cluster.lock(self, hosts, doing) as held:  # type: ignore[arg-type]
            yield held

    def survey(self, wanted: Wanted) -> Survey:
        files = tuple(_file(path, data) for path, data in wanted.items())
        part = Part(component="kube-scheduler", unit=UNIT, files=files)
        seen: dict[Host, Observed] = each(HOSTS, lambda host: self.machine(host).observe(frozenset(wanted), (UNIT,)), 16)
        plans = tuple(compare(host, [part], seen[host]) for host in HOSTS)
        return Survey(observed={host.name: one for host, one in seen.items()}, parts={}, plans=plans, objects=(), texts={})

    def push(self, wanted: Wanted) -> int:
        """As `./inv push` does it; how much it changed."""
        component = Component(
            name="kube-scheduler",
            on=("controller",),
            files=lambda *_: (),
            roll=Roll(gates=(Gate(name="healthy", ask=self.ask, within=0),)),
        )
        self.patch.setattr(roll, "ALL", (component,))
        found = settled(self, lambda: self.survey(wanted), self.told.append)  # type: ignore[arg-type]
        push(self, found, self.told.append)  # type: ignore[arg-type]
        return found.changes

    def refused(self, wanted: Wanted) -> str:
        """What a push says that does not come through: a line for each finding, and no secret in any."""
        with pytest.raises(Mistake) as caught:
            self.push(wanted)
        assert "key\n" not in str(caught.value)
        return str(caught.value)

    def carried(self, host: Host) -> Wanted:
        """What of the files is there, each whole."""
        paths = {path: self.hosts[host.name].path(path) for path in OLD}
        return {path: at.read_bytes() for path, at in paths.items() if at.exists()}

    def restarts(self, host: Host) -> int:
        return sum("restart" in line for line in self.hosts[host.name].log())

    def converges(self, wanted: Wanted) -> None:
        """Running it again finishes, and after that there is nothing to do, nothing owed, and no trace of what went wrong."""
        self.again()
        self.push(wanted)
        assert self.push(wanted) == 0
        for host in HOSTS:
            assert self.carried(host) == wanted
            seen = self.machine(host).observe(frozenset())
            assert (seen.owed, seen.died) == (frozenset(), False)
            assert not self.hosts[host.name].leftovers()
            with self.machine(host).lock("look"):
                pass


def _file(path: PurePosixPath, data: bytes) -> File[Content]:
    content = Secret(data) if path == LEAF else Text(data.decode())
    mode = 0o600 if path == LEAF else 0o644
    return File(path=path, content=content, uses=(Use(reader=UNIT, pickup=Pickup.RESTART),), mode=mode, owner=ME)
