"""A look at the certificate that a port shows: also one that nobody would accept, and a port that hangs up."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hardway.desired import Secret
from hardway.errors import Mistake
from hardway.inventory import Host, load
from hardway.pki import declared, issue, tls
from hardway.pki.pair import Pair, leaf, root
from hardway.pki.request import Request
from hardway.remote.cluster import Cluster
from hardway.remote.http import Client
from hardway.state import State

ROOT = Path(__file__).parents[2]
HERE = Host(name="here", address=IPv4Address("127.0.0.1"), roles=frozenset({"controller"}))


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    inventory, declarations, state = load(ROOT / "inventory.yaml"), declared.load(ROOT / "certs"), State(tmp_path / "kit")
    issue.ensure(declarations, inventory, state, datetime.now(UTC))
    return Cluster(replace(inventory, hosts=(HERE,)), issue.credentials(declarations, inventory, state), {}, lambda: Secret(b""))


@contextmanager
def answered(by: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which one connection is answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=lambda: by(server.accept()[0]))
        answering.start()
        yield server.getsockname()[1]
        answering.join()


def shows(pair: Pair, says: bytes = b"") -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.show(context, Secret(pair.pem))

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as end, suppress(ConnectionError):  # who has seen enough hangs up
            end.recv(1 << 16)
            end.sendall(says)

    return answer


def test_a_certificate_that_expired_and_that_nobody_knows_is_seen(cluster: Cluster) -> None:
    ago = datetime.now(UTC) - timedelta(days=400)
    request = Request(authority="x", certificate="x", common_name="x", usages=("server",))
    pair = leaf(request, root("stranger", keys="ec", days=900, now=ago), now=ago)

    with answered(shows(pair)) as port:
        shown = cluster.shown(HERE, port)

    assert (shown.serial, shown.issuer) == (pair.certificate.serial_number, "stranger")
    assert shown.not_after < datetime.now(UTC)


def test_a_connection_that_was_lost_before_tls_began_has_shown_none(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an API server stops right after it has accepted: `ssl` by itself says nothing of it."""
    monkeypatch.setattr(cluster, "dial", lambda *_: socket.socket())

    with pytest.raises(Mistake, match="no certificate is shown"):
        cluster.shown(HERE, 6443)


def test_the_last_answer_of_a_server_that_stops_has_its_serial_number(cluster: Cluster) -> None:
    request = Request(authority="x", certificate="x", common_name="x", addresses=(HERE.address,), usages=("server",))
    signer = root("known", keys="ec", days=900, now=datetime.now(UTC))
    pair = leaf(request, signer, now=datetime.now(UTC))
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"

    with answered(shows(pair, last)) as port:
        client = Client(cluster.dial, tls.client(trusted=signer.certificate_pem.decode()))
        answer = client.request("GET", f"https://127.0.0.1:{port}", "/")

    assert (answer.body, answer.serial) == (b"ok", pair.certificate.serial_number)


def test_a_port_at_which_nobody_listens_has_shown_none(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(Mistake, match="no certificate is shown: Connection refused"):
        cluster.shown(HERE, port)
