"""Audit logs say which credential was used last, by whom and when; what was sent in a request cannot say so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from hardway.rotate import audited
from hardway.rotate.audited import Log
from tests.rotate.logs import Logged, event

NOW = datetime.now(UTC)
SINCE = NOW - timedelta(hours=1)


def read(cluster: Logged) -> Log:
    return audited.read(cast("Any", cluster), SINCE)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def test_the_last_request_of_each_credential_counts_whichever_server_had_it(cluster: Logged) -> None:
    cluster.log("controller-1", event("jane", "X509SHA256=aa", ago(50)), event("jane", "X509SHA256=aa", ago(20), userAgent="curl/8"))
    cluster.log("controller-1", event("jim", "X509SHA256=bb", ago(40)), name="audit-2026-11-25T10-00-00.000.log")
    cluster.log("controller-3", event("jane", "X509SHA256=aa", ago(30)), event("jim", "X509SHA256=bb", ago(45)))

    found = read(cluster)

    assert {credential: (one.user, one.at, one.client) for credential, one in found.shown.items()} == {
        "X509SHA256=aa": ("jane", ago(20), "10.0.0.5 (curl/8)"),
        "X509SHA256=bb": ("jim", ago(40), "10.0.0.5 (kubectl/v1.37.2)"),
    }
    assert not found.issued


def test_what_was_before_does_not_count(cluster: Logged) -> None:
    cluster.log("controller-2", event("jane", "X509SHA256=aa", ago(61)))
    cluster.log("controller-2", event("jane", "X509SHA256=aa", ago(10)), name="audit-old.log", age=7200)  # written before
    cluster.log("controller-2", event("jane", "X509SHA256=aa", ago(10)), name="other.log")

    assert read(cluster) == Log()


def test_a_token_is_known_by_who_has_issued_it_and_whether_it_is_a_pods(cluster: Logged) -> None:
    account = "system:serviceaccount:ci:builder"
    cluster.log("controller-2", event("jane", "X509SHA256=aa", ago(9), annotations={audited.ISSUED: "JTI=1"}))
    cluster.log("controller-1", event(account, "JTI=1", ago(8)), event(account, "JTI=2", ago(7), extra={audited.POD: ["builder-x"]}))

    found = read(cluster)

    assert found.issued == {"JTI=1": ("controller-2", ago(9))}
    assert {credential: one.in_pod for credential, one in found.shown.items()} == {"X509SHA256=aa": False, "JTI=1": False, "JTI=2": True}


def test_what_was_sent_says_nothing(cluster: Logged) -> None:
    """The object of a request may look like any part of a line."""
    sent = {
        "user": {"username": "root", "extra": {audited.USED: ["JTI=sent"]}},
        "requestReceivedTimestamp": "2099-01-01T00:00:00.000000Z",
        "annotations": {audited.ISSUED: "JTI=sent"},
    }
    for body in ("requestObject", "responseObject"):
        cluster.log("controller-1", event("jane", f"X509SHA256={body}", ago(5), requestURI='/x?"' + audited.USED, **{body: sent}))
    cluster.log("controller-1", event("jane", "X509SHA256=old", ago(70), requestObject=sent))
    cluster.log("controller-1", {**event("system:anonymous", "x", ago(5), requestObject=sent), "user": {"username": "system:anonymous"}})

    found = read(cluster)

    assert set(found.shown) == {"X509SHA256=requestObject", "X509SHA256=responseObject"}
    assert not found.issued


def test_a_line_that_is_being_written_is_left_out(cluster: Logged) -> None:
    cluster.log("controller-1", event("jane", "X509SHA256=aa", ago(5)), event("jim", "X509SHA256=bb", ago(4)))
    path = cluster.root / "controller-1" / "audit.log"
    path.write_text(path.read_text()[:-20])

    assert set(read(cluster).shown) == {"X509SHA256=aa"}
