"""Access for a person: short, whole, quoted; and what is refused."""

from __future__ import annotations

import ssl
from base64 import b64decode
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from hardway.certs.person import Person, access, issued, kubeconfig, naming, told
from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.inventory.document import Document
from hardway.pki import succession
from hardway.pki.declared import Declarations
from hardway.pki.pair import Pair
from hardway.state import State
from tests.certs.conftest import FakeCluster

JANE = Person(user="jane", group="team: a", lifetime=timedelta(hours=8))


def test_a_certificate_for_a_person_is_short_and_kept_nowhere(state: State, now: datetime) -> None:
    before = {name: state.read(name) for name in state.glob("**/*")}

    pair = Pair.parse(issued(JANE, state, now).data)

    assert pair.certificate.subject.rfc4514_string() == "CN=jane,O=team: a"
    assert pair.certificate.not_valid_after_utc == now + timedelta(hours=8)
    assert {name: state.read(name) for name in state.glob("**/*")} == before


@pytest.mark.parametrize(
    ("person", "why"),
    [
        (Person(user="system:admin", group=None, lifetime=timedelta(hours=1)), "system:admin: names that begin with system:"),
        (Person(user="jane", group="system:masters", lifetime=timedelta(hours=1)), "system:masters: names that begin with system:"),
        (Person(user="a\nb", group=None, lifetime=timedelta(hours=1)), "can be printed"),
        (Person(user="j" * 65, group=None, lifetime=timedelta(hours=1)), "1 to 64 characters"),
        (Person(user="jane", group=None, lifetime=timedelta(days=31)), "5 minutes to 30 days"),
        (Person(user="jane", group=None, lifetime=timedelta(0)), "5 minutes to 30 days"),
    ],
)
def test_what_is_not_a_persons_is_refused(state: State, now: datetime, person: Person, why: str) -> None:
    with pytest.raises(Mistake, match=why):
        issued(person, state, now)


def test_an_embedded_kubeconfig_holds_all_of_it(inventory: Inventory, cluster: FakeCluster, state: State, now: datetime) -> None:
    pair = issued(JANE, state, now)
    odd = Person(user="o: 'jane", group=None, lifetime=JANE.lifetime)

    found = Document.parse(kubeconfig(inventory, cluster.credentials, odd, pair).data.decode(), name="x").data

    (user,) = found["users"]
    assert user["name"] == found["contexts"][0]["context"]["user"] == "o: 'jane"
    assert b64decode(user["user"]["client-certificate-data"]) == pair.data
    assert found["clusters"][0]["cluster"]["server"] == inventory.server
    ssl.create_default_context(cadata=b64decode(found["clusters"][0]["cluster"]["certificate-authority-data"]).decode())


def test_one_that_names_files_names_those_beside_it(inventory: Inventory) -> None:
    found = Document.parse(naming(inventory, JANE, "jane.pem", "jane.ca.crt").data.decode(), name="x").data

    assert found["users"][0]["user"] == {"client-certificate": "jane.pem", "client-key": "jane.pem"}
    assert not Path(found["clusters"][0]["cluster"]["certificate-authority"]).is_absolute()


def rule(verbs: str, *resources: str, named: str = "") -> dict[str, list[str]]:
    return {"verbs": verbs.split(), "apiGroups": [""], "resources": list(resources), "resourceNames": named.split()}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([], ()),
        ([rule("create", "selfsubjectaccessreviews", "selfsubjectrulesreviews")], ()),
        ([rule("get", "pods"), {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}], ("everything",)),
        ([rule("get list", "pods", "pods/log"), rule("get list", "services")], ("get, list pods, services",)),
        ([rule("get", *"abcdefghij")], ("get a, b, c, d, e, f, g and 3 more",)),
        ([rule("get", "secrets", named="x y"), rule("create", "pods")], ("get secrets named x, y", "create pods")),
    ],
)
def test_rules_are_told_in_few_words(rules: list[dict[str, list[str]]], words: tuple[str, ...]) -> None:
    assert told(rules) == words


def test_what_is_written_down_of_it_names_the_certificate_and_holds_no_key(cluster: FakeCluster, state: State, now: datetime) -> None:
    pair = issued(JANE, state, now)

    found = access(JANE, pair, cluster.credentials)

    made = Pair.parse(pair.data)
    assert found.fingerprint == made.certificate.fingerprint(SHA256()).hex()
    assert (found.user, found.until) == ("jane", now + JANE.lifetime)
    assert found.believes == (found.signer,) == (made.issuer,)


def test_in_a_rotation_it_is_signed_by_the_newest_that_is_trusted(
    declarations: Declarations, inventory: Inventory, state: State, now: datetime
) -> None:
    one = next(one for one in declarations.authorities if one.authority == "kubernetes")
    new = succession.prepare(one, inventory, state, now)

    assert Pair.parse(issued(JANE, state, now).data).issuer == new.common_name
    assert succession.trust(state, "kubernetes").signer != new
