"""Gates: asked until they open, or long enough."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from hardway.desired import Component, Gate, Live
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.waiting import answer

PAUSE = 0.2  # seconds between two questions of a gate
PATIENCE = 5.0  # seconds between two looks at what may never come up


def wait(live: Live, gate: Gate, host: Host, doomed: Callable[[], str | None] = lambda: None) -> float:
    """Ask until the gate opens; the seconds that it took. A Mistake with its last answer if it does not in time.

    `doomed` is asked now and then why it never will.
    """
    pause = threading.Event()
    began = looked = time.monotonic()
    why = None
    while True:
        closed = answer(partial(gate.ask, live, host))
        spent = time.monotonic() - began
        if closed is None:
            return spent
        if began + spent - looked > PATIENCE:
            looked, why = began + spent, doomed()
        if spent > gate.within or why:
            what = f"still closed after {spent:.0f} s: {closed}{f'; {why}' if why else ''}"
            raise Mistake.at(f"{host.name}: gate {gate.name}", what, "the hosts after it were left as they were")
        pause.wait(PAUSE)


def closed(live: Live, component: Component, host: Host, *, arrived: bool = False) -> str | None:
    """Why the instance on a host is not well; None if it is. `arrived`: all that was changed has to be there too."""
    for gate in (gate for gate in component.roll.gates if arrived or not gate.arrival):
        if why := answer(partial(gate.ask, live, host)):
            return f"{gate.name}: {why}"
    return None
