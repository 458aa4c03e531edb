"""A real TLS server, and the way to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hardway.pki.pair import Pair
from hardway.traffic.client import Client, Door
from hardway.traffic.identity import Identities
from hardway.traffic.ledger import Ledger
from tests.traffic.server import ApiServer, authority, kubeconfig, pair


@dataclass
class There:
    """A server, and what its operator has."""

    server: ApiServer
    signer: Pair
    kubeconfig: Path
    door: Door
    ledger: Ledger
    clients: list[Client] = field(default_factory=list)

    def client(self, protocol: str = "http/1.1", *, kept: bool = True, replays: bool = True) -> Client:
        self.clients.append(Client(self.door, self.ledger, protocol, kept=kept, replays=replays))
        return self.clients[-1]

    def write(self, *trusted: Pair, signer: Pair, name: str = "admin") -> None:
        """Give the operator another identity, or another trust."""
        bundle = b"".join(one.certificate_pem for one in trusted)
        kubeconfig(self.kubeconfig, self.server.port, bundle, pair(signer, name, "client"))


@pytest.fixture(scope="session")
def signer() -> Pair:
    return authority("kubernetes")


@pytest.fixture
def there(tmp_path: Path, signer: Pair) -> Iterator[There]:
    with ApiServer(signer) as server:
        path = kubeconfig(tmp_path / "admin.kubeconfig", server.port, signer.certificate_pem, pair(signer, "admin", "client"))
        identities = Identities(path, lambda: dict(json.loads(path.read_text())))
        door = Door(identities=identities, hosts=("controller-1", "controller-2"))
        there = There(server=server, signer=signer, kubeconfig=path, door=door, ledger=Ledger())
        yield there
        for client in there.clients:
            client.close()
