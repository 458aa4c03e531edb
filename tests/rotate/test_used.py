"""Who goes on using what is older is refused to be cut off, or told, until seen with the newer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from hardway import people
from hardway.errors import Mistake
from hardway.people import Access
from hardway.pki import declared, tls
from hardway.pki.trust import Trust
from hardway.rotate import audited, used
from hardway.rotate.used import Dependent
from hardway.state import State
from tests.rotate.logs import Logged, event
from tests.rotate.test_believed import asked, systemctl

NOW = datetime.now(UTC)
KEYS = next(one for one in declared.load(Path(__file__).parents[2] / "certs").key_pairs if one.key_pair == "service-account")
ADMIN = "kubernetes-admin"  # certs/kubernetes.yaml
ACCOUNT = "system:serviceaccount:ci:builder"


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def access(user: str, fingerprint: str, generation: str) -> Access:
    return Access(user=user, fingerprint=fingerprint, signer=generation, believes=(generation,), until=NOW + timedelta(hours=1))


def listed(dependents: Iterable[Dependent]) -> list[tuple[str, str, bool]]:
    return [(one.who, one.what, bool(one.step)) for one in dependents]


@pytest.fixture
def signer(cluster: Logged) -> str:
    return cluster.credentials.trusts["kubernetes"].signer.common_name


@pytest.fixture
def of_tokens(cluster: Logged) -> Callable[[], list[tuple[str, str, bool]]]:
    """With API servers that sign by the new key since two hours, and controller managers a minute later."""
    began = {"kube-apiserver": ago(120), "kube-controller-manager": ago(119)}
    cluster.began = {f"/etc/kubernetes/{name}/service-account.pem": int(at.timestamp()) for name, at in began.items()}
    return lambda: listed(used.tokens(cast("Any", cluster), KEYS, NOW))


def test_a_token_of_the_older_key_that_was_used_lately_is_named(cluster: Logged, of_tokens: Callable[[], Any]) -> None:
    cluster.log("controller-2", event(ACCOUNT, "JTI=old", ago(30)))

    assert of_tokens() == [
        (
            "ServiceAccount ci/builder",
            "has used a token that the older key has signed, 30 minutes ago from 10.0.0.5 (kubectl/v1.37.2)",
            True,
        )
    ]


def test_one_that_was_used_longer_ago_is_told_only(cluster: Logged, of_tokens: Callable[[], Any]) -> None:
    cluster.log("controller-2", event(ACCOUNT, "JTI=old", ago(90)))

    assert [lately for *_, lately in of_tokens()] == [False]


@pytest.mark.parametrize(
    "events",
    [
        (event("jane", "X509SHA256=aa", ago(100), annotations={audited.ISSUED: "JTI=x"}), event(ACCOUNT, "JTI=x", ago(30))),
        (event(ACCOUNT, "JTI=x", ago(119.5)),),  # before the controller managers have followed, which have unbound tokens themselves
        (event(ACCOUNT, "JTI=x", ago(30), extra={audited.POD: ["builder-x"]}),),
        (event("jane@example.com", "JTI=x", ago(30)),),
        (event("jane", "X509SHA256=aa", ago(30)),),
    ],
    ids=["issued since", "before the switch", "a Pod's", "another issuer's", "a certificate"],
)
def test_others_are_not_taken_for_it(cluster: Logged, of_tokens: Callable[[], Any], events: tuple[Any, ...]) -> None:
    cluster.log("controller-1", *events)

    assert of_tokens() == []


def test_a_token_that_was_issued_before_the_switch_is_an_older_ones(cluster: Logged, of_tokens: Callable[[], Any]) -> None:
    cluster.log("controller-1", event("jane", "X509SHA256=aa", ago(121), annotations={audited.ISSUED: "JTI=x"}))
    cluster.log("controller-1", event(ACCOUNT, "JTI=x", ago(30)))

    assert [lately for *_, lately in of_tokens()] == [True]


def test_people_who_would_not_believe_the_newest_are_named_until_seen_with_it(cluster: Logged, state: State) -> None:
    def blind() -> list[tuple[str, str, bool]]:
        return listed(used.believers(cast("Any", cluster), state, "kubernetes-new", NOW))

    assert blind() == []
    people.give(state, access("jane", "aa", "kubernetes-old"), NOW)
    ((who, what, lately),) = blind()
    assert (who, lately) == ("jane", False)
    assert what.startswith("has a kubeconfig that does not know kubernetes-new, until ")

    cluster.log("controller-1", event("jane", "X509SHA256=aa", ago(30)))
    assert [lately for *_, lately in blind()] == [True]

    people.give(state, access("jane", "bb", "kubernetes-new"), NOW)
    assert [lately for *_, lately in blind()] == [True]  # she has a new one, and has not used it yet
    cluster.log("controller-2", event("jane", "X509SHA256=bb", ago(20)))
    assert blind() == []
    cluster.log("controller-3", event("jane", "X509SHA256=aa", ago(10)))
    assert [lately for *_, lately in blind()] == [True]  # both


def test_who_shows_what_an_older_generation_has_signed_is_named(cluster: Logged, state: State, signer: str) -> None:
    def late() -> list[tuple[str, str, bool]]:
        return listed(used.certificates(cast("Any", cluster), state, cluster.credentials.trusts["kubernetes"], NOW))

    operator = tls.fingerprint(cluster.credentials.operator("admin"))
    people.give(state, access("jane", "aa", "kubernetes-old"), NOW)
    people.give(state, access("jim", "bb", signer), NOW)
    cluster.log("controller-1", event("jane", "X509SHA256=aa", ago(30)), event("jim", "X509SHA256=bb", ago(30)))
    cluster.log("controller-1", event(ADMIN, f"X509SHA256={operator}", ago(30)))
    cluster.log("controller-1", event("system:kube-scheduler", "X509SHA256=ee", ago(30)), event(ACCOUNT, "JTI=1", ago(30)))
    assert [(who, lately) for who, _, lately in late()] == [("jane", True)]

    cluster.log("controller-2", event("stranger", "X509SHA256=cc", ago(30)))
    assert [(who, lately) for who, _, lately in late()] == [("jane", True), ("stranger", False)]


def test_a_copy_of_an_older_kubeconfig_of_the_operators_is_named(cluster: Logged, state: State) -> None:
    cluster.log("controller-1", event(ADMIN, "X509SHA256=dd", ago(30)))

    ((who, what, lately),) = listed(used.certificates(cast("Any", cluster), state, cluster.credentials.trusts["kubernetes"], NOW))

    assert (who, lately) == (ADMIN, True)
    assert "an older certificate than the one in state/" in what


def test_just_after_a_switch_nobody_is_late(cluster: Logged, state: State) -> None:
    trust: Trust = cluster.credentials.trusts["kubernetes"]
    now = datetime.now(UTC) - timedelta(days=1) + timedelta(minutes=9)  # nine minutes after all was issued
    cluster.log("controller-1", event("stranger", "X509SHA256=cc", now))

    assert listed(used.certificates(cast("Any", cluster), state, trust, now)) == []


def test_only_who_has_asked_lately_stops_a_rotation_and_not_who_is_to_be_cut_off() -> None:
    late, gone = Dependent(who="jane", what="has used it", step="give a new one"), Dependent(who="jim", what="has it")
    told: list[str] = []

    with pytest.raises(Mistake) as refused:
        used.refuse([late, gone], told.append, cut_off=False)
    assert [str(one) for one in refused.value.findings] == ["jane: has used it; give a new one; --cut-off does not wait for it"]
    assert told == ["jim: has it"]

    used.refuse([late, gone], told.append, cut_off=True)
    assert told[1:] == ["jane: has used it", "jim: has it"]


@pytest.mark.parametrize(
    ("restarted", "began"),
    [(2, 2), (0, 0), (500, 30), (-100, 30)],
    ids=["by its new key", "in the same second", "again, later", "not seen to be"],
)
def test_a_daemon_has_begun_with_its_key_when_it_was_restarted_by_it(tmp_path: Path, restarted: int, began: int) -> None:
    key = tmp_path / "service-account.pub"
    key.write_text("key")
    placed = int(key.stat().st_ctime)

    told = asked(used.STARTED, str(key), "x.service", "30", env=systemctl(tmp_path, placed + restarted))

    assert int(told) - placed == began
