"""The lock of a host: it lives as long as an open channel with a heartbeat, so it is never stale."""

from __future__ import annotations

import getpass
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hardway.errors import Mistake
from hardway.remote.channel import Channel, first_line

SILENCE = 30  # seconds without a heartbeat after which the host lets go
HEARTBEAT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Held:
    """A host's lock; only `hold` makes one."""

    host: str
    lost: threading.Event

    def check(self) -> None:
        """Stop if the lock is no longer ours."""
        if self.lost.is_set():
            raise Mistake.at(self.host, "the connection that holds its lock was lost", "run it again")


def who(doing: str) -> str:
    """The operator, as a second one is told."""
    return " ".join(f"{getpass.getuser()}@{socket.gethostname()}, {doing}".split())


@contextmanager
def hold(host: str, channel: Channel, *, heartbeat: float) -> Iterator[Held]:
    """Hold what the channel was opened for; a Mistake that names the holder if it is somebody else."""
    over, lost = threading.Event(), threading.Event()

    def beat() -> None:
        while not over.wait(heartbeat):
            try:
                channel.send(b".")
            except OSError:
                lost.set()
                return

    try:
        word, _, holder = first_line(channel).partition("\t")
        if word == "held":
            what = f"another operator is at work: {holder}" if holder else "another operator is at work"
            raise Mistake.at(host, what, "wait: the lock goes with its holder")
        if word != "locked":
            raise Mistake.at(host, f"its lock cannot be taken: {holder or word or 'the connection broke'}", "run it again")
        heart = threading.Thread(target=beat, name=f"lock of {host}", daemon=True)
        heart.start()
        try:
            yield Held(host, lost)
        finally:
            over.set()
            heart.join()
    finally:
        channel.close()
