"""A request is asked again where RFC 9110 lets a client do so, and nowhere else; each loss is written down with its cause."""

from __future__ import annotations

from typing import Any

import pytest

from hardway.traffic.client import expecting
from tests.traffic.conftest import There

MAPS = "/api/v1/namespaces/n/configmaps"
PROTOCOLS = ("http/1.1", "http/2")
BOTH = pytest.mark.parametrize("protocol", PROTOCOLS)


def body(name: str = "m") -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"count": "1"}}


def ask(there: There, method: str, protocol: str, *, replays: bool = True, times: int = 1) -> list[bool]:
    """The same request, several times over one connection; which of them a client had something from."""
    client = there.client(protocol, replays=replays)
    path = MAPS if method == "POST" else f"{MAPS}/m"
    names = [f"m{number}" if method == "POST" else "m" for number in range(times)]
    sent = [body(name) if method in {"POST", "PUT"} else None for name in names]
    answered = [client.call("kind", method, path, one, wrong=expecting(200, 201, 404)) is not None for one in sent]
    print(*there.ledger.failures, sep="\n")
    return answered


def counts(there: There) -> tuple[int, int, int, int]:
    print(*there.ledger.failures, sep="\n")
    tally = there.ledger.kinds["kind"]
    return tally.requests, tally.raw, tally.replayed, tally.visible


@BOTH
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_what_is_answered_is_counted_and_no_failure(there: There, method: str, protocol: str) -> None:
    assert ask(there, method, protocol, times=3) == [True] * 3
    assert counts(there) == (3, 0, 0, 0)
    assert there.server.served == 1  # the connection was kept


@BOTH
@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_idempotent_request_is_asked_once_more_when_its_connection_is_lost(there: There, method: str, how: str, protocol: str) -> None:
    there.server.troubles.append((method, how))

    assert ask(there, method, protocol) == [True]
    assert counts(there) == (1, 1, 1, 0)
    (failure,) = there.ledger.failures
    assert (failure.method, failure.instance, failure.replayed, failure.visible) == (method, "controller-1", True, False)
    assert failure.cause.startswith("request: ")
    assert len(there.server.asked) == 2


@BOTH
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_it_is_not_asked_a_third_time(there: There, method: str, protocol: str) -> None:
    there.server.troubles.extend([(method, "cut")] * 2)

    assert ask(there, method, protocol) == [False]
    assert counts(there) == (1, 2, 1, 1)


@BOTH
@pytest.mark.parametrize("how", ["cut", "reset"])
def test_a_post_of_which_nobody_knows_what_it_did_is_never_asked_again(there: There, how: str, protocol: str) -> None:
    there.server.troubles.append(("POST", how))

    assert ask(there, "POST", protocol) == [False]
    assert counts(there) == (1, 1, 0, 1)
    assert [method for method, _ in there.server.asked] == ["POST"]


@pytest.mark.parametrize("how", ["cut", "reset", "done"])
def test_a_post_that_does_nothing_twice_is_asked_once_more(there: There, how: str) -> None:
    there.server.troubles.append(("POST", how))
    client = there.client("http/1.1")

    first = client.call("kind", "POST", MAPS, body(), wrong=expecting(201, again=(409,)), once=True)
    second = client.call("kind", "POST", MAPS, body(), wrong=expecting(201, again=(409,)), once=True)

    assert first
    assert first.replayed
    assert second is None  # 409 is right only for who has asked again
    assert counts(there) == (2, 2, 1, 1)


def test_a_client_that_does_not_replay_sees_every_loss(there: There) -> None:
    there.server.troubles.append(("PUT", "cut"))

    assert ask(there, "PUT", "http/1.1", replays=False, times=2) == [False, True]
    assert counts(there) == (2, 1, 0, 1)


def test_half_an_answer_is_not_asked_for_again(there: There) -> None:
    there.server.store.objects[f"{MAPS}/m"] = body()
    there.server.troubles.append(("GET", "half"))

    assert ask(there, "GET", "http/1.1") == [False]
    assert counts(there) == (1, 1, 0, 1)
    assert there.ledger.failures[0].cause.startswith("response: ")


@BOTH
@pytest.mark.parametrize("status", ["401", "403", "429", "500", "503"])
def test_a_wrong_answer_is_a_failure_and_not_asked_for_again(there: There, status: str, protocol: str) -> None:
    there.server.troubles.append(("GET", status))

    assert ask(there, "GET", protocol) == [False]
    assert counts(there) == (1, 1, 0, 1)
    assert f"status {status}" in there.ledger.failures[0].cause


@BOTH
@pytest.mark.parametrize("status", ["429", "503"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_is_turned_away_and_told_when_to_come_again_does_so_once(there: There, method: str, status: str, protocol: str) -> None:
    there.server.troubles.append((method, f"{status}later"))
    assert ask(there, method, protocol) == [True]
    assert counts(there) == (1, 1, 1, 0)

    there.server.troubles.extend([(method, f"{status}later")] * 2)
    assert ask(there, method, protocol) == [False]
    assert counts(there) == (2, 3, 2, 1)


@pytest.mark.parametrize("how", ["refused", "goaway"])
def test_what_an_http2_server_says_that_it_has_not_begun_is_asked_again_even_a_post(there: There, how: str) -> None:
    there.server.troubles.append(("POST", how))

    assert ask(there, "POST", "http/2") == [True]
    assert counts(there) == (1, 1, 1, 0)


def test_what_an_http2_server_answers_before_it_goes_is_no_failure(there: There) -> None:
    there.server.troubles.append(("POST", "drain"))

    assert ask(there, "POST", "http/2", times=2) == [True, True]
    assert counts(there) == (2, 0, 0, 0)
    assert there.server.served == 2  # the next request went over another connection


def test_a_connection_that_was_closed_between_two_requests_is_no_failure(there: There) -> None:
    there.server.troubles.append(("GET", "close"))

    assert ask(there, "GET", "http/1.1", times=2) == [True, True]
    assert counts(there) == (2, 0, 0, 0)


@BOTH
def test_a_server_that_is_killed_is_refused_to_whoever_comes_and_back_for_the_next(there: There, protocol: str) -> None:
    client = there.client(protocol)
    assert client.call("kind", "GET", MAPS)
    there.server.kill()
    assert client.call("kind", "GET", MAPS) is None
    there.server.start()
    assert client.call("kind", "GET", MAPS)

    tally = there.ledger.kinds["kind"]
    assert (tally.requests, tally.visible) == (3, 1)
    assert there.ledger.failures[-1].cause == "connect: connection refused"


def test_a_connection_that_is_lost_in_its_handshake_is_tried_once_more_if_its_request_may_be(there: There) -> None:
    there.server.troubles.extend([("CONNECT", "reset")])
    assert ask(there, "GET", "http/1.1") == [True]
    there.server.troubles.extend([("CONNECT", "reset")])
    assert ask(there, "POST", "http/1.1") == [False]
    assert [(one.method, one.replayed, one.cause.partition(":")[0]) for one in there.ledger.failures] == [
        ("GET", True, "handshake"),
        ("POST", False, "handshake"),
    ]


def test_silence_is_a_failure_that_is_not_asked_again(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardway.traffic.client.WITHIN", 0.1)
    there.server.troubles.append(("GET", "silence"))

    assert ask(there, "GET", "http/1.1") == [False]
    assert [(one.cause, one.replayed) for one in there.ledger.failures] == [("request: no answer in time", False)]


def test_the_longest_gap_begins_with_the_first_request_that_failed_and_ends_with_an_answer(there: There) -> None:
    now = [0.0]
    there.ledger.clock = lambda: now[0]
    who = object()
    for began, ended, answered in ((1, 1.1, True), (2, 2.1, False), (3, 3.1, False), (4, 4.2, True), (5, 5.1, True)):
        now[0] = ended
        there.ledger.ended(who, "get", "http/1.1 kept", began=began, answered=answered)

    assert there.ledger.kinds["get"].gap == pytest.approx(2.2)
