"""A link with 100 ms: how often an answer is waited for, not how long that takes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hardway.remote.machine import Machine
from hardway.remote.ssh import line
from tests.remote.fakehost import FakeHost
from tests.remote.sshd import Sshd
from tests.remote.test_machine import A, blob, put

pytestmark = pytest.mark.lab
ONE_WAY = 0.05


@dataclass
class SlowLink:
    """Forwards to a port, each piece 50 ms later, and counts how often the other side had to be heard first."""

    to: int
    server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    turns: int = 0
    _last: str = ""
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        """Once both ends have hung up."""
        self._thread.join()
        self.server.close()

    @property
    def port(self) -> int:
        return int(self.server.getsockname()[1])

    def _accept(self) -> None:
        with self.server.accept()[0] as near, socket.create_connection(("127.0.0.1", self.to)) as far:
            both = ((near, far, "operator"), (far, near, "host"))
            for one in (threads := [threading.Thread(target=self._forward, args=ends) for ends in both]):
                one.start()
            for one in threads:
                one.join()

    def _forward(self, source: socket.socket, sink: socket.socket, side: str) -> None:
        """Pieces are sent on in their order, so many may be under way."""
        waiting: list[tuple[float, bytes]] = []
        more = threading.Condition()

        def send() -> None:
            while True:
                with more:
                    more.wait_for(lambda: waiting)
                    due, piece = waiting.pop(0)
                time.sleep(max(due - time.monotonic(), 0))  # the link itself, nothing that is waited for
                with suppress(OSError):
                    sink.sendall(piece) if piece else sink.shutdown(socket.SHUT_WR)
                if not piece:
                    return

        (sending := threading.Thread(target=send)).start()
        piece = b"."
        while piece:
            try:
                piece = source.recv(1 << 16)
            except OSError:
                piece = b""
            if piece and side == "operator" and self._last == "host":
                self.turns += 1
            self._last = side if piece else self._last
            with more:
                waiting.append((time.monotonic() + ONE_WAY, piece))
                more.notify()
        sending.join()

    def since(self, before: int) -> int:
        return self.turns - before


@pytest.fixture
def link(sshd: Sshd) -> Iterator[SlowLink]:
    made = SlowLink(sshd.port)
    yield made
    made.close()


def test_a_slow_link_is_waited_for_a_few_times_whatever_is_sent(sshd: Sshd, link: SlowLink, host: FakeHost, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(sshd.known_hosts.read_text().replace(f":{sshd.port}", f":{link.port}"))
    there = sshd.host()
    reached = line(replace(there, ssh=replace(there.ssh, port=link.port)), identity=sshd.identity, known_hosts=known)
    machine = Machine(name="c1", line=reached, root=str(host.root))
    machine.observe(frozenset())
    assert link.turns <= 9  # of which SSH's own beginning takes most

    before = link.turns
    machine.observe(frozenset({A}))
    assert link.since(before) <= 4  # a channel, a command, its script and request together

    before = link.turns
    machine.apply(put(A, bytes(1 << 20)))
    assert link.since(before) <= 6

    before = link.turns
    machine.store([blob(tmp_path / f"{n}", bytes([n]) * (1 << 18)) for n in range(8)])
    assert link.since(before) <= 8  # windows of two megabytes, not a question for each
    machine.close()
