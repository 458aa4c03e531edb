"""Something that is asked again and again while a check breaks things: when it was answered, and when it was not."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hardway.errors import Mistake

PAUSE = 0.1  # seconds between an answer and the next question
BEGUN = 10.0  # seconds until the first answer: without one before, nothing is known of what follows


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One question: when it was put, when it ended, and why it was not answered."""

    began: float
    ended: float
    error: str = ""


@dataclass(slots=True, kw_only=True)
class Pulse:
    """Every beat so far, the oldest first."""

    beats: list[Beat] = field(default_factory=list)

    def failed(self, since: float) -> list[Beat]:
        """Those put since then and not answered."""
        return [beat for beat in self.beats if beat.error and beat.began >= since]

    @property
    def gap(self) -> float:
        """The longest time without an answer."""
        answered = [beat.ended for beat in self.beats if not beat.error]
        return max((later - earlier for earlier, later in itertools.pairwise(answered)), default=0.0)

    def steady(self, seconds: float, since: float) -> str | None:
        """None if everything was answered for so long; else why not."""
        began = time.monotonic() - seconds
        recent = [beat for beat in self.beats if beat.ended >= began]
        failed = [beat for beat in recent if beat.error]
        if failed:
            return failed[-1].error
        return None if recent and began >= since else "it has not been answered for long enough"

    def __str__(self) -> str:
        failed = sum(bool(beat.error) for beat in self.beats)
        return f"{len(self.beats)} requests, {failed} failed, {self.gap:.1f} s the longest time without an answer"


@contextmanager
def beating(ask: Callable[[], object]) -> Iterator[Pulse]:
    """Ask in the background for as long as the context lasts, which begins with an answer; what raises a Mistake was not answered."""
    pulse, over, begun = Pulse(), threading.Event(), threading.Event()

    def beat() -> None:
        while not over.wait(PAUSE):
            began, error = time.monotonic(), ""
            try:
                ask()
            except Mistake as mistake:
                error = str(mistake)
            pulse.beats.append(Beat(began=began, ended=time.monotonic(), error=error))
            if not error:
                begun.set()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        if not begun.wait(BEGUN):
            last = pulse.beats[-1].error if pulse.beats else "no answer yet"
            raise Mistake.at("", f"nothing is answered before anything is stopped: {last}")
        yield pulse
    finally:
        over.set()
        thread.join()
