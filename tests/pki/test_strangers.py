"""A host's bundle that holds an authority of somebody else's is noticed; one of ours, or one that has expired, is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hardway.pki.kept import generation
from hardway.pki.pair import Pair, root
from hardway.pki.strangers import strangers
from hardway.pki.trust import Trust

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def authority(name: str, now: datetime = NOW, days: int = 30) -> Pair:
    return root(name, keys="ec", days=days, now=now)


def trust(*pairs: Pair) -> Trust:
    found = [generation("etcd", f"2026{letter}", pair) for letter, pair in zip("ab", pairs, strict=False)]
    return Trust(trusted=tuple(found), signer=found[0])


def pem(*pairs: Pair) -> str:
    return "".join(pair.certificate_pem.decode() for pair in pairs)


def test_every_generation_of_ours_is_known() -> None:
    old, new = authority("etcd-ca-2026a"), authority("etcd-ca-2026b")

    assert strangers(pem(old, new), [trust(old, new)], NOW) == ()


def test_an_authority_of_the_same_name_and_another_key_is_a_stranger() -> None:
    ours, theirs = authority("etcd-ca-2026a"), authority("etcd-ca-2026a")

    assert strangers(pem(ours, theirs), [trust(ours)], NOW) == ("etcd-ca-2026a",)


def test_an_expired_stranger_protects_nothing() -> None:
    ours, theirs = authority("etcd-ca-2026a"), authority("etcd-ca-2024a", NOW - timedelta(days=60))

    assert strangers(pem(theirs), [trust(ours)], NOW) == ()


def test_a_damaged_bundle_protects_nothing() -> None:
    assert strangers("-----BEGIN CERTIFICATE-----\nxx\n", [trust(authority("a"))], NOW) == ()
