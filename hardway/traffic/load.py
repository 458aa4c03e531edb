"""The load itself: every client in a thread of its own, at its own pace, from the beginning to the report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from hardway.errors import Mistake
from hardway.traffic import ground as grounds
from hardway.traffic.client import Client, Door, patiently
from hardway.traffic.inside import READERS, counted
from hardway.traffic.ledger import Ledger
from hardway.traffic.mix import PLAIN, PROTOCOLS, SELECTOR, Numbers, Part, objects, parts, planned
from hardway.traffic.report import Report, report
from hardway.traffic.settings import Settings
from hardway.traffic.watch import Watch, Written

ARRIVES = 10.0  # seconds that the last events of a watch may take
READ = 60.0  # seconds until what Pods have written can be read
BEHIND = 1.0  # seconds of what was missed that are made up for

Tell = Callable[[str], None]


class Load:
    """Load on one cluster. A context: the ground is made when it is entered, and removed when it is left."""

    def __init__(self, settings: Settings, door: Door, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._door = door
        self._admin = Client(door, Ledger())  # prepares and puts away; it does not count
        self._ledger = Ledger()
        self._written = Written()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        try:
            self._ground = grounds.make(self._admin, self._settings, objects(), self._tell)
        except BaseException:
            self._admin.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        grounds.remove(self._admin, self._ground.space, self._tell)
        self._admin.close()

    def begin(self) -> None:
        """All clients, once the watches look."""
        path = f"{self._ground.path('configmaps')}?{SELECTOR}"
        self._watches = [Watch(self._door, self._ledger, self._written, path, protocol) for protocol in PROTOCOLS]
        for watch in self._watches:
            self._start(watch.run, self._over)
        for watch in self._watches:
            if not watch.begun.wait(ARRIVES):
                raise Mistake.at("traffic", "no watch comes about")
        self._parts = parts(self._ground, self._written, Numbers())
        self._began = time.time()
        self._writing = threading.Event()  # set when the clients have to end; the watches go on for a moment
        self._clients = [self._start(self._keep, part, index / len(self._parts)) for index, part in enumerate(self._parts)]

    @property
    def now(self) -> str:
        """How it stands, in one line."""
        tallies = [tally for kind, tally in self._ledger.kinds.copy().items() if kind not in PLAIN]
        asked, visible, raw = (sum(getattr(one, name) for one in tallies) for name in ("requests", "visible", "raw"))
        return f"{time.time() - self._began:.0f} s: {asked} requests, {visible} failures visible, {raw} raw"

    def finish(self) -> Report:
        """Let every client end its request, see what the watches and the Pods have seen, and count."""
        self._writing.set()
        for thread in self._clients:
            thread.join()
        seconds = time.time() - self._began
        self._settle()
        self._over.set()
        for thread in self._threads:
            thread.join()
        for watch in self._watches:
            watch.judge()
        self._read_pods()
        plan = planned(self._parts, self._ground, seconds)
        return report(self._ledger, planned=plan, left_out=self._ground.left_out, seconds=seconds)

    def _settle(self) -> None:
        def unseen() -> str | None:
            return f"{missing} events have not come" if (missing := sum(len(watch.missing()) for watch in self._watches)) else None

        try:
            patiently("the watches", unseen, ARRIVES)
        except Mistake:
            return  # they are counted as lost

    def _read_pods(self) -> None:
        for kind, (pod, read) in READERS.items():
            if kind in self._ground.left_out:
                continue
            path = f"{self._ground.path('pods', pod)}/log"
            log: list[str] = []

            def unread(path: str = path, log: list[str] = log) -> str | None:
                reply = self._admin.ask("GET", path)
                log.append(reply.body.decode(errors="replace"))
                return None if reply.status == 200 else f"status {reply.status}"

            patiently(f"what the Pod {pod} has written", unread, READ)
            found = counted(kind, read(log[-1]), self._began)
            self._ledger.add(kind, found.tally, found.failures)

    def _start(self, do: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=do, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _keep(self, part: Part, phase: float) -> None:
        """One client at its pace, begun somewhere in its first interval; what it misses in an outage it makes up for in part."""
        client = Client(self._door, self._ledger, part.protocol, kept=part.kept, replays=part.replays)
        end = self._began + self._settings.longest
        due = time.time() + phase / part.rate
        while not self._writing.wait(max(due - time.time(), 0)) and time.time() < end:
            part.work(client)
            due = max(due + 1 / part.rate, time.time() - BEHIND)
        client.close()
