"""Waiting for what comes about: it is asked for again and again, and nobody guesses how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hardway.errors import Mistake

Ask = Callable[[], str | None]  # None once it is so; else why not


def until(ask: Ask, *, within: float, pause: float, over: threading.Event | None = None) -> str | None:
    """Ask until the answer is None; the last answer if it was not so within so many seconds, or before `over` was set."""
    over = over or threading.Event()
    deadline = time.monotonic() + within
    while (why := ask()) is not None:
        if time.monotonic() > deadline or over.wait(pause):
            return why
    return None


def told(ask: Ask, tell: Callable[[str], None], *, every: float, after: float = 0.0) -> Ask:
    """The same question; why it is not so is told now and then, for the first time after so many seconds."""
    due = time.monotonic() + after

    def asked() -> str | None:
        nonlocal due
        why = ask()
        if why is not None and time.monotonic() >= due:
            due = time.monotonic() + every
            tell(why)
        return why

    return asked


def answer(ask: Ask) -> str | None:
    """What is asked; where it could not be, why."""
    try:
        return ask()
    except Mistake as mistake:
        return "; ".join(str(finding) for finding in mistake.findings)
