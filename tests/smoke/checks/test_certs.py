"""The check of served certificates turns red for each thing that it proves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import cast

import pytest

from hardway.components import ALL
from hardway.desired import Secret, Shown, Stage
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.pki import declared, issue
from hardway.pki.credentials import Credentials
from hardway.pki.pair import Pair, leaf, root
from hardway.pki.request import Request
from hardway.smoke.checks.certs import served
from hardway.smoke.verdict import Failed
from hardway.state import State

ROOT = Path(__file__).parents[3]
INVENTORY = load(ROOT / "inventory.yaml")
PEER = PurePosixPath("/etc/etcd/pki/peer.pem")
PORTS = {serving.port: serving.certificate for component in ALL for serving in component.serves}


@dataclass
class FakeStage:
    """Hosts that carry and show what was issued."""

    credentials: Credentials
    inventory: Inventory = INVENTORY
    carried: dict[tuple[str, str], bytes] = field(default_factory=dict)
    shows: dict[tuple[str, int], Pair] = field(default_factory=dict)
    signs: str = ""
    deaf: int = 0

    def __post_init__(self) -> None:
        declarations = declared.load(ROOT / "certs")
        paths = {name: one.path for authority in declarations.authorities for name, one in authority.certificates.items()}
        for host in self.inventory.hosts:
            files = {file.path: file.content for file in self.credentials.files(host)}
            self.carried |= {(host.name, str(path)): one.data for path, one in files.items() if isinstance(one, Secret)}
            for port, name in PORTS.items():
                if paths[name] in files:
                    self.shows[host.name, port] = Pair.parse(self.carried[host.name, str(paths[name])])

    def run(self, host: Host, *argv: str) -> str:
        found = [self.carried.get((host.name, path), b"").decode() for path in argv[4:]]
        return "".join(text.partition("-----BEGIN PRIVATE")[0] for text in found)

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        if port == self.deaf:
            raise Mistake.at(f"{host.name}:{port}", f"refused{loopback}")
        pair = self.shows[host.name, port]
        return Shown(serial=pair.certificate.serial_number, issuer=pair.issuer, not_after=pair.certificate.not_valid_after_utc)

    def issued(self, certificate: str, host: Host) -> int:
        return self.credentials.serial(certificate, host)

    def signer(self, authority: str) -> str:
        return self.signs or self.credentials.trusts[authority].signer.common_name

    def both(self, pair: Pair) -> None:
        """One that lies on a host and is shown by it."""
        self.carried["controller-2", str(PEER)] = pair.pem
        self.shows["controller-2", 2380] = pair


@pytest.fixture
def stage(tmp_path: Path) -> FakeStage:
    state, declarations = State(tmp_path / "kit"), declared.load(ROOT / "certs")
    issue.ensure(declarations, INVENTORY, state, datetime.now(UTC))
    return FakeStage(issue.credentials(declarations, INVENTORY, state))


@pytest.fixture
def other() -> Pair:
    signer = root("another", keys="ec", days=900, now=datetime.now(UTC))
    request = Request(authority="etcd", certificate="etcd-peer", common_name="controller-2", usages=("server",))
    return leaf(request, signer, now=datetime.now(UTC))


def test_a_cluster_that_serves_what_it_has_passes_with_every_port_as_evidence(stage: FakeStage) -> None:
    evidence = served(cast("Stage", stage)).splitlines()

    assert len(evidence) == 3 * 5 + 2  # of each controller, of each worker
    assert evidence[0].startswith("port 2379 of controller-1: etcd-server ")


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        (lambda stage, other: stage.shows.update({("controller-2", 2380): other}), "which lies on the host; got "),
        (lambda stage, other: stage.both(other), "as in state/; got "),
        (lambda stage, _: setattr(stage, "signs", "etcd-ca-2031b"), "to show a certificate of etcd-ca-2031b, which signs now; got one of "),
        (lambda stage, _: setattr(stage, "deaf", 10259), "port 10259 of controller-1 to show a certificate; got "),
        (lambda stage, _: stage.carried.pop(("controller-3", str(PEER))), "4 certificates are in 5 files"),
    ],
)
def test_each_thing_that_is_wrong_fails(stage: FakeStage, other: Pair, sabotage: Callable[[FakeStage, Pair], object], reason: str) -> None:
    sabotage(stage, other)

    with pytest.raises(Failed) as failed:
        served(cast("Stage", stage))

    assert reason in str(failed.value)


def test_a_certificate_near_its_end_fails(tmp_path: Path) -> None:
    state, declarations = State(tmp_path / "kit"), declared.load(ROOT / "certs")
    issue.ensure(declarations, INVENTORY, state, datetime.now(UTC) - timedelta(days=340))
    stage = FakeStage(issue.credentials(declarations, INVENTORY, state))

    with pytest.raises(Failed, match="not near its end; got one that ends on"):
        served(cast("Stage", stage))
