"""The lock of a host, by processes on it."""

from __future__ import annotations

import threading

import pytest

from hardway.errors import Mistake
from hardway.remote import lock, protocol
from tests.remote.fakehost import FakeHost
from tests.remote.test_machine import DASH_AND_IN_FULL_THE_OTHERS, SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_one_holds_it_and_the_next_is_told_who(host: FakeHost, shell: str) -> None:
    alice, bob = host.machine(shell), host.machine(shell)
    with alice.lock("push"):
        with pytest.raises(Mistake, match=r"another operator is at work: .+@.+, push since 20"), bob.lock("up"):
            pass
        assert alice.observe(frozenset()).files == {}  # it hinders no question
    with bob.lock("up"):
        pass


@pytest.mark.parametrize("shell", DASH_AND_IN_FULL_THE_OTHERS)
def test_a_silent_holder_loses_it(host: FakeHost, shell: str) -> None:
    carol, bob = host.machine(shell), host.machine(shell)
    _, channel = carol._begin([protocol.lock("carol", silence=1)])
    with lock.hold("c1", channel, heartbeat=3600):
        while channel.receive():  # until the host lets go
            pass
        with bob.lock("push"):
            pass


def test_a_heartbeat_keeps_it(host: FakeHost) -> None:
    alice, bob = host.machine(), host.machine()
    _, channel = alice._begin([protocol.lock("alice, push", silence=1)])
    over = threading.Event()
    with lock.hold("c1", channel, heartbeat=0.1) as held:
        over.wait(1.5)  # longer than the silence that would end it
        held.check()
        with pytest.raises(Mistake, match="alice, push"), bob.lock("up"):
            pass


def test_a_host_that_cannot_lock_is_a_mistake(host: FakeHost) -> None:
    host.path("/run").write_text("no directory")
    with pytest.raises(Mistake, match="its lock cannot be taken"), host.machine().lock("push"):
        pass
