"""A watch goes on where it was cut; an event that was lost, or that came twice, is a failure that clients see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hardway.traffic import identity
from hardway.traffic.watch import Watch, Written
from tests.traffic.conftest import There

MAPS = "/api/v1/namespaces/n/configmaps"
BOTH = pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])
Event = dict[str, Any]


@contextmanager
def watching(there: There, protocol: str) -> Iterator[tuple[Watch, Callable[[], int]]]:
    """A watch, and what makes a change that it has to see."""
    written, over = Written(), threading.Event()
    watch = Watch(there.door, there.ledger, written, f"{MAPS}?labelSelector=x", protocol)
    thread = threading.Thread(target=watch.run, args=(over,))
    thread.start()
    client = there.client()

    def change() -> int:
        until(lambda: bool(there.server.store.watchers))
        reply = client.call("put", "PUT", f"{MAPS}/m", {"metadata": {"name": "m"}})
        assert reply
        version = int(reply.json()["metadata"]["resourceVersion"])
        written.add(version, client.now)
        return version

    yield watch, change
    over.set()
    thread.join()
    watch.judge()


def until(so: Callable[[], bool]) -> None:
    never = threading.Event()
    for _ in range(1000):
        if so():
            return
        never.wait(0.005)
    pytest.fail("it did not come about")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardway.traffic.watch.TICK", 0.02)
    monkeypatch.setattr("hardway.traffic.watch.PAUSE", 0.01)
    monkeypatch.setattr(identity, "LOOK", 0)


def causes(there: There, *, visible: bool) -> list[str]:
    return [one.cause for one in there.ledger.failures if one.visible == visible]


@BOTH
def test_what_was_seen_once_and_in_order_is_no_failure(there: There, protocol: str) -> None:
    with watching(there, protocol) as (watch, change):
        for _ in range(5):
            change()
        until(lambda: not watch.missing())

    assert there.ledger.failures == []
    assert there.ledger.kinds["watch"].requests == 5


@BOTH
def test_an_event_that_never_comes_is_a_failure(there: There, protocol: str) -> None:
    with watching(there, protocol) as (watch, change):
        first = change()
        there.server.store.spoil = lambda _: []
        lost = change()
        there.server.store.spoil = lambda event: [event]
        last = change()
        until(lambda: list(watch.missing()) == [lost])

    assert causes(there, visible=True) == [f"the event of resourceVersion {lost} was lost"]
    assert there.ledger.kinds["watch"].requests == last - first  # the two others


def test_an_event_that_comes_twice_or_late_is_a_failure(there: There) -> None:
    kept: list[Event] = []

    def twice(event: Event) -> list[Event]:
        return [event, event]

    def late(event: Event) -> list[Event]:
        kept.insert(0, event)
        return kept if len(kept) == 2 else []

    with watching(there, "http/1.1") as (watch, change):
        there.server.store.spoil = twice
        first = change()
        until(lambda: bool(causes(there, visible=True)))
        there.server.store.spoil = late
        second, third = change(), change()
        until(lambda: list(watch.missing()) == [second])

    assert causes(there, visible=True) == [
        f"the event of resourceVersion {first} came again, or after {first}",
        f"the event of resourceVersion {second} came again, or after {third}",
        f"the event of resourceVersion {second} was lost",
    ]


@BOTH
def test_a_watch_that_breaks_is_a_raw_failure_and_goes_on(there: There, protocol: str) -> None:
    there.server.troubles.append(("GET", ""))  # the list before the watch
    there.server.troubles.append(("GET", "break"))
    with watching(there, protocol) as (watch, change):
        until(lambda: bool(there.ledger.failures))
        change()
        until(lambda: not watch.missing())

    assert causes(there, visible=True) == []
    assert len(causes(there, visible=False)) == 1
    assert there.ledger.failures[0].instance == "controller-1"


@BOTH
def test_a_watch_that_the_server_ends_is_no_failure(there: There, protocol: str) -> None:
    there.server.troubles.append(("GET", ""))
    there.server.troubles.append(("GET", "short"))
    with watching(there, protocol) as (watch, change):
        change()
        until(lambda: sum(method == "GET" for method, _ in there.server.asked) == 3)
        change()
        until(lambda: not watch.missing())

    assert there.ledger.failures == []


def test_versions_that_are_gone_are_a_failure_and_the_watch_begins_anew(there: There) -> None:
    there.server.store.spoil = lambda _: [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}]
    with watching(there, "http/1.1") as (_, change):
        change()
        until(lambda: bool(there.ledger.failures))

    assert causes(there, visible=True)[0] == "410 too old"


def test_a_watch_goes_on_as_somebody_new_without_a_loss(there: There) -> None:
    with watching(there, "http/2") as (watch, change):
        change()
        there.write(there.signer, signer=there.signer, name="second")
        until(lambda: ("GET", "second") in there.server.asked)
        change()
        until(lambda: not watch.missing())

    assert there.ledger.failures == []
