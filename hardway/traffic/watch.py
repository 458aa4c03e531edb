"""Watches that go on where they were cut, and whether each has seen every change once, in order."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from hardway.traffic.client import Door
from hardway.traffic.ledger import Failure, Ledger
from hardway.traffic.wire.connection import Ask, Lost, Reached, Wire

LASTS = 40  # seconds that a watch asks for; then it begins anew, as those of real clients do
TICK = 0.25  # seconds between two looks whether it has to end
PAUSE = 0.1  # before the next try
WITHIN = 15.0  # seconds for an answer to begin


class Written:
    """What has been changed, and when its client knew: what every watch has to see."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: dict[int, float] = {}

    def add(self, version: int, at: float) -> None:
        with self._lock:
            self._changes.setdefault(version, at)  # what was asked twice and done once has one version

    def since(self, version: int) -> dict[int, float]:
        """Those after a version."""
        with self._lock:
            return {one: at for one, at in self._changes.items() if one > version}


class Watch:
    """One watch of one collection; `run` is its thread."""

    def __init__(self, door: Door, ledger: Ledger, written: Written, path: str, protocol: str) -> None:
        """`path` has a query already."""
        self._door = door
        self._ledger = ledger
        self._written = written
        self._path = path
        self._protocol = protocol
        self._first = 0  # where it began
        self._last = 0
        self._seen: dict[int, float] = {}
        self.name = f"{protocol} watch"
        self.begun = threading.Event()

    def run(self, over: threading.Event) -> None:
        """Watch until it is over."""
        while not over.is_set():
            wire: Wire | None = None
            try:
                wire, identity = self._door.open(self._protocol)
                if not self._last:
                    self._last = self._listed(wire, identity.prefix, identity.headers)
                    self._first = self._first or self._last
                query = f"&watch=true&resourceVersion={self._last}&timeoutSeconds={LASTS}"
                status = wire.begin(Ask(method="GET", path=identity.prefix + self._path + query, headers=identity.headers), WITHIN).status
                self.begun.set()
                for line in _lines(wire.pieces(LASTS + WITHIN, TICK)):
                    if line and status == 200:
                        self._take(json.loads(line), wire.instance)
                    elif line:
                        self._fail(wire.instance, f"status {status}: {line[:200].decode(errors='replace')}", visible=False)
                    if over.is_set() or self._door.identities.now().number != identity.number:
                        break  # a newer identity: the watch goes on with it, from where it was
            except Lost as lost:
                self._fail(lost.instance, str(lost), visible=False)
            finally:
                if wire:
                    wire.close()
            over.wait(PAUSE)

    def missing(self) -> dict[int, float]:
        """What was written and has not been seen."""
        return {version: at for version, at in self._written.since(self._first).items() if version not in self._seen}

    def judge(self) -> None:
        """Write down how late each event came, and which never did; once, when the watch is over."""
        for version, at in self._written.since(self._first).items():
            if (seen := self._seen.get(version)) is not None:
                self._ledger.lagged("watch", self.name, seen, max(seen - at, 0))
            else:
                self._fail("", f"the event of resourceVersion {version} was lost", visible=True)

    def _listed(self, wire: Wire, prefix: str, headers: Mapping[str, str]) -> int:
        status = wire.begin(Ask(method="GET", path=f"{prefix}{self._path}&limit=1", headers=headers), WITHIN).status
        body = b"".join(wire.pieces(WITHIN))
        if status != 200:
            raise Lost(Reached.RESPONSE, f"status {status}: {body[:200].decode(errors='replace')}", instance=wire.instance)
        return int(json.loads(body)["metadata"]["resourceVersion"])

    def _take(self, event: Mapping[str, Any], instance: str) -> None:
        if event["type"] == "ERROR":
            self._fail(instance, f"{event['object'].get('code')} {event['object'].get('message')}", visible=True)
            self._last = 0  # it is listed anew; what came between is found missing at the end
            return
        version = int(event["object"]["metadata"]["resourceVersion"])
        if version <= self._last and event["type"] != "BOOKMARK":
            self._fail(instance, f"the event of resourceVersion {version} came again, or after {self._last}", visible=True)
            return
        self._last = version
        if event["type"] != "BOOKMARK":
            self._seen[version] = self._ledger.clock()

    def _fail(self, instance: str, cause: str, *, visible: bool) -> None:
        at, client = self._ledger.clock(), self.name
        self._ledger.failed(
            Failure(
                at=at, kind="watch", client=client, method="WATCH", instance=instance, cause=cause, replayed=not visible, visible=visible
            )
        )


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines as they come; nothing with each tick."""
    buffer = b""
    for piece in pieces:
        *whole, buffer = (buffer + piece).split(b"\n")
        yield from whole
        yield b""
    if buffer:
        yield buffer
