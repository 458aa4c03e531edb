"""What has been asked, and what became of it: counts for each kind and each way to connect, every raw failure, the longest gaps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

KEPT = 1000  # failures that are listed; all are counted

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One request that came to nothing on the wire, or was answered wrongly."""

    at: float  # seconds since the epoch
    kind: str
    client: str  # protocol, and whether its connection was a new one
    method: str
    instance: str  # which API server; empty if nobody had answered
    cause: str
    replayed: bool  # it was tried once more, as RFC 9110 9.2.2 allows
    visible: bool  # the client had nothing from it

    @property
    def document(self) -> dict[str, object]:
        at = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")
        names = ("kind", "client", "method", "instance", "cause", "replayed", "visible")
        return {"at": at, **{name: getattr(self, name) for name in names}}


@dataclass(slots=True)
class Second:
    """What was counted within one second."""

    requests: int = 0
    visible: int = 0
    raw: int = 0


@dataclass(slots=True)
class Tally:
    """Counts of one kind, or of one way to connect."""

    requests: int = 0
    visible: int = 0
    raw: int = 0
    replayed: int = 0
    gap: float = 0.0  # seconds; the longest that one client was without an answer
    seconds: dict[int, Second] = field(default_factory=dict)  # by the second since the epoch

    def ended(self, at: float, gap: float) -> None:
        """Count a request, and how long its client had been without an answer."""
        self.requests += 1
        self.gap = max(self.gap, gap)
        self._second(at).requests += 1

    def failed(self, at: float, *, visible: bool, replayed: bool) -> None:
        """Count a raw failure."""
        self.raw += 1
        self.visible += visible
        self.replayed += replayed
        second = self._second(at)
        second.raw += 1
        second.visible += visible

    def _second(self, at: float) -> Second:
        return self.seconds.setdefault(int(at), Second())


@dataclass(slots=True)
class Ledger:
    """Kept by many threads."""

    clock: Clock = time.time
    kinds: dict[str, Tally] = field(default_factory=dict)
    clients: dict[str, Tally] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[tuple[object, str], float] = field(default_factory=dict)  # since when somebody has had no answer

    def failed(self, failure: Failure) -> None:
        """A raw failure; if it is visible, its request is over by it."""
        with self._lock:
            for tally in self._of(failure.kind, failure.client):
                tally.failed(failure.at, visible=failure.visible, replayed=failure.replayed)
            if len(self.failures) < KEPT:
                self.failures.append(failure)

    def ended(self, who: object, kind: str, client: str, *, began: float, answered: bool) -> None:
        """A request is over: the gap of whoever asked ends with an answer, and began with the first request that got none."""
        now = self.clock()
        with self._lock:
            since = self._waiting.pop((who, kind), began)
            if not answered:
                self._waiting[who, kind] = since
            for tally in self._of(kind, client):
                tally.ended(now, now - since)

    def lagged(self, kind: str, client: str, at: float, seconds: float) -> None:
        """An event of a watch has come, so long after it had happened."""
        with self._lock:
            for tally in self._of(kind, client):
                tally.ended(at, seconds)

    def add(self, kind: str, tally: Tally, failures: list[Failure]) -> None:
        """What was counted elsewhere, such as in a Pod."""
        with self._lock:
            self.kinds[kind] = tally
            self.failures += failures[: max(KEPT - len(self.failures), 0)]

    def _of(self, kind: str, client: str) -> tuple[Tally, Tally]:
        return self.kinds.setdefault(kind, Tally()), self.clients.setdefault(client, Tally())
