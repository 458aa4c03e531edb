"""The same for several hosts."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote.fanout import Failure, attempt, each

HOSTS = tuple(Host(name=f"h{n}", address=IPv4Address(f"10.0.0.{n}"), roles=frozenset()) for n in range(1, 6))


def odd_fails(host: Host) -> int:
    number = int(host.name[1:])
    if number % 2:
        raise Mistake.at(host.name, "is odd")
    return number


def test_all_failures_are_kept_and_told_in_the_order_of_the_hosts() -> None:
    with pytest.raises(Mistake, match=r"^h1: is odd\nh3: is odd\nh5: is odd$"):
        each(HOSTS, odd_fails, 2)
    results = attempt(HOSTS, odd_fails, 2)
    assert [host.name for host, result in results.items() if isinstance(result, Failure)] == ["h1", "h3", "h5"]
    assert [result for result in results.values() if not isinstance(result, Failure)] == [2, 4]


def test_as_many_go_at_once_as_allowed() -> None:
    together = threading.Barrier(5, timeout=10)
    assert list(each(HOSTS, lambda host: (together.wait(), host.name)[1], 5).values()) == ["h1", "h2", "h3", "h4", "h5"]
    running, most, guard = 0, 0, threading.Lock()

    def count(_: Host) -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        with guard:
            running -= 1

    each(HOSTS, count, 1)
    assert most == 1


def test_after_an_interruption_no_other_begins_and_those_under_way_finish() -> None:
    begun: list[str] = []
    finished: list[str] = []

    def work(host: Host) -> None:
        begun.append(host.name)
        if host.name == "h1":
            raise KeyboardInterrupt
        finished.append(host.name)

    with pytest.raises(KeyboardInterrupt):
        each(HOSTS, work, 1)
    assert begun[0] == "h1"
    assert finished == begun[1:]
