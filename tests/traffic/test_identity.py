"""Files that change between two requests: the next one goes by what they say now, and none is lost."""

from __future__ import annotations

import itertools
import json

import pytest

from hardway.errors import Mistake
from hardway.traffic import identity
from hardway.traffic.identity import Identities
from tests.traffic.conftest import There
from tests.traffic.server import authority

MAPS = "/api/v1/namespaces/n/configmaps"
BOTH = pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "LOOK", 0)


@BOTH
def test_a_new_certificate_is_used_for_the_next_request(there: There, protocol: str) -> None:
    client = there.client(protocol)
    for name in ("first", "second", "second", "third"):
        there.write(there.signer, signer=there.signer, name=name)
        assert client.call("get", "GET", MAPS)

    assert [who for _, who in there.server.asked] == ["first", "second", "second", "third"]
    assert there.ledger.kinds["get"].raw == 0


@BOTH
def test_an_authority_is_replaced_without_a_loss(there: There, protocol: str) -> None:
    old, new = there.signer, authority("kubernetes-2")
    clients = [there.client(protocol), there.client(protocol, kept=False)]

    def all_ask() -> None:
        assert all(client.call("get", "GET", MAPS) for client in clients)

    all_ask()
    there.write(old, new, signer=old)  # both are trusted
    all_ask()
    there.server.trust(new, old)  # served by the new
    all_ask()
    there.write(old, new, signer=new)
    all_ask()
    there.write(new, signer=new)
    all_ask()

    assert there.ledger.failures == []


@BOTH
def test_an_authority_that_is_switched_before_it_is_trusted_is_seen(there: There, protocol: str) -> None:
    there.server.trust(authority("kubernetes-2"), there.signer)

    assert there.client(protocol).call("get", "GET", MAPS) is None
    (failure,) = there.ledger.failures
    assert (failure.visible, failure.replayed) == (True, False)
    assert failure.cause.startswith("handshake: the certificate is not trusted")


def test_half_a_file_is_not_believed(there: There) -> None:
    before = there.door.identities.now()
    whole = there.kubeconfig.read_text()
    for broken in ("{}", '{"clusters": [{"cluster": {}}], "users": []}'):
        there.kubeconfig.write_text(broken)
        assert there.door.identities.now() is before
    there.kubeconfig.write_text(whole)
    assert there.door.identities.now().number == before.number + 1


def test_files_that_a_kubeconfig_names_are_read_again_too(there: There) -> None:
    document = json.loads(there.kubeconfig.read_text())
    (there.kubeconfig.parent / "token").write_text("one\n")
    document["users"][0]["user"] = {"tokenFile": "token"}
    there.kubeconfig.write_text(json.dumps(document))
    seen = []
    for token in ("one", "two", "three"):
        (there.kubeconfig.parent / "token").write_text(f"{token}\n")
        seen.append(there.door.identities.now())

    assert [one.headers["Authorization"] for one in seen] == ["Bearer one", "Bearer two", "Bearer three"]
    assert all(one.number < other.number for one, other in itertools.pairwise(seen))


@pytest.mark.parametrize(("where", "key"), [("user", "exec"), ("cluster", "insecure-skip-tls-verify")])
def test_a_kubeconfig_that_cannot_be_used_is_one_line(there: There, where: str, key: str) -> None:
    document = json.loads(there.kubeconfig.read_text())
    document[f"{where}s"][0][where][key] = True

    with pytest.raises(Mistake, match=f"traffic cannot use its `{key}`"):
        Identities(there.kubeconfig, lambda: document)
