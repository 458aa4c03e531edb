"""The shipped inventory with everything issued, and a cluster that carries and serves it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import cast

import pytest

from hardway import render
from hardway.certs.look import items, look
from hardway.certs.report import Report
from hardway.components import ALL
from hardway.desired import Blob, Shown
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.observed import Facts, Observed, OnDisk
from hardway.pki import declared, issue
from hardway.pki.credentials import Credentials
from hardway.pki.declared import Declarations
from hardway.plan import digest
from hardway.remote.cluster import Cluster
from hardway.state import State

ROOT = Path(__file__).parents[2]
FACTS = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="b", clock=0, disk_free=1 << 40, memory=1 << 30)
KUBECONFIG = "admin.kubeconfig"


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def declarations() -> Declarations:
    return declared.load(ROOT / "certs")


@pytest.fixture(scope="session")
def inventory() -> Inventory:
    return load(ROOT / "inventory.yaml")


@pytest.fixture(scope="session")
def pristine(declarations: Declarations, inventory: Inventory, now: datetime, tmp_path_factory: pytest.TempPathFactory) -> State:
    state = State(tmp_path_factory.mktemp("state") / "kit")
    issue.ensure(declarations, inventory, state, now)
    state.write(KUBECONFIG, render.admin_kubeconfig(inventory, issue.credentials(declarations, inventory, state)).data)
    return state


@pytest.fixture
def state(pristine: State, tmp_path: Path) -> State:
    return State(Path(shutil.copytree(pristine.root, tmp_path / "kit")))


@dataclass
class FakeMachine:
    cluster: FakeCluster
    host: Host

    def observe(self, paths: Iterable[PurePosixPath], *_: object) -> Observed:
        if self.host.name in self.cluster.dead:
            raise Mistake.at(self.host.name, "cannot be reached", "is it up?")
        self.cluster.observed += 1
        there = self.cluster.carried[self.host.name]
        files = {path: OnDisk(sha256=there[path], mode=0, owner="") for path in paths if path in there}
        return Observed(facts=FACTS, files=files, certificates=self.cluster.own.get(self.host.name, {}))


@dataclass
class FakeCluster:
    """Hosts that carry what state/ had when it was made, and serve it."""

    inventory: Inventory
    credentials: Credentials
    dead: set[str] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)  # ports
    other: dict[tuple[str, int], Shown] = field(default_factory=dict)
    own: dict[str, dict[PurePosixPath, bytes]] = field(default_factory=dict)  # what daemons have asked for themselves
    observed: int = 0

    def __post_init__(self) -> None:
        programs = {name: Blob(sha256="", size=0, local=Path()) for component in ALL for name in component.programs}
        self.carried = {
            host.name: {
                file.path: digest(file.content)
                for part in render.parts(self.inventory, host, FACTS, self.credentials, programs)
                for file in part.files
            }
            for host in self.inventory.hosts
        }
        self.certificates = {(serving.port): serving.certificate for component in ALL for serving in component.serves}

    def machine(self, host: Host) -> FakeMachine:
        return FakeMachine(self, host)

    def issued(self, certificate: str, host: Host) -> int:
        return self.credentials.serial(certificate, host)

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        assert loopback == (port in {10257, 10259})
        if port in self.closed:
            raise Mistake.at(f"{host.name}:{port}", "no certificate is shown: Connection refused")
        mine = Shown(serial=self.issued(self.certificates[port], host), issuer="kubernetes-2026a", not_after=datetime.now(UTC))
        return self.other.get((host.name, port), mine)


@pytest.fixture
def cluster(declarations: Declarations, inventory: Inventory, state: State) -> FakeCluster:
    return FakeCluster(inventory, issue.credentials(declarations, inventory, state))


Ask = Callable[..., Report]


@pytest.fixture
def report(cluster: FakeCluster, declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> Ask:
    """What `./inv certs` would find out."""

    def ask(*, at: datetime = now, warn_days: float | None = None) -> Report:
        seen, silent = look(cast("Cluster", cluster), items(declarations, inventory, state, KUBECONFIG, at), inventory.hosts)
        warn = None if warn_days is None else timedelta(days=warn_days)
        return Report(cluster="kit", asked=at, warn=warn, seen=seen, silent=silent)

    return ask
