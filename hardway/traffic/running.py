"""Traffic beside something else: started, and asked for its report."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hardway.errors import Finding, Mistake
from hardway.traffic.report import Report
from hardway.traffic.settings import Settings

ROOT = Path(__file__).parents[2]
BEGINS = 400.0  # seconds; Pods may take two minutes each on a machine that is busy
ENDS = 180.0  # seconds to the report, and again until all is put away

Tell = Callable[[str], None]


class Beside:
    """Load that another process keeps up."""

    def __init__(self, process: subprocess.Popen[str], tell: Tell, now: Tell) -> None:
        self._process = process
        self._news: queue.Queue[dict[str, Any]] = queue.Queue()
        self._said: deque[str] = deque(maxlen=20)
        self._tell = tell
        self._now = now
        self._report: Report | None = None
        self._readers = [
            threading.Thread(target=self._listen, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._overhear, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def begun(self) -> None:
        """Return once the load is on."""
        self._expect("begun", BEGINS)

    def last(self, seconds: float) -> None:
        """Return after so long; a Mistake as soon as the load has ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            self._expect("report", 1)

    def finish(self) -> Report:
        """End the load; what it has found. May be asked again."""
        if self._report is None:
            self.word("finish")
            self._report = Report(document=self._expect("report", ENDS))
        return self._report

    def word(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.write(f"{text}\n")
                self._process.stdin.flush()

    def close(self) -> None:
        """It is told that nobody is there any more, puts away what it has made, and ends."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(ENDS)
        finally:
            self._process.kill()  # a second Ctrl-C: what it leaves says when it expires
            self._process.wait()
            for reader in self._readers:
                reader.join()

    def _expect(self, what: str, within: float) -> Any:
        try:
            said = self._news.get(timeout=within)
        except queue.Empty:
            raise Mistake.at("traffic", f"nothing came within {within:.0f} s") from None
        if "mistake" in said:
            raise Mistake(*(Finding(where=where, what=why, next_step=step) for where, why, step in said["mistake"]))
        if what not in said:
            why = self._said[-1] if self._said else "it said nothing"
            raise Mistake.at("traffic", f"its process has ended: {why}", "`./inv smoke --cleanup --all` removes what it has left")
        return said[what]

    def _listen(self, out: IO[str]) -> None:
        with out:
            for line in out:
                said = json.loads(line)
                if "tell" in said:
                    self._tell(said["tell"])
                elif "now" in said:
                    self._now(said["now"])
                else:
                    self._news.put(said)
        self._news.put({})

    def _overhear(self, err: IO[str]) -> None:
        with err:
            self._said.extend(line.rstrip() for line in err)


def silent(_: str) -> None:
    """Tell nobody."""


@contextmanager
def running(settings: Settings, tell: Tell, now: Tell = silent) -> Iterator[Beside]:
    """Load on a cluster for as long as the context lasts, from its beginning; all that was made for it is removed afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hardway.traffic"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is for us, and then it is told to end
    )
    load = Beside(process, tell, now)
    try:
        load.word(settings.json)
        load.begun()
        yield load
    finally:
        load.close()
