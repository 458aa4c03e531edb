"""How a check ends other than well: it failed, or it could not be run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hardway.components import kube_apiserver_lb
from hardway.desired import Answer, Stage
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory


@dataclass(frozen=True, slots=True)
class Journal:
    """Where to look: the journal of a unit on a host."""

    host: Host
    unit: str

    def __str__(self) -> str:
        return f"journalctl -u {self.unit} -n 10 on {self.host.name}"


class Failed(Exception):  # noqa: N818 - a check has failed; the program has not
    """What was proved wrong: expected, got, where to look."""

    def __init__(self, expected: str, got: str, look: Journal | None = None) -> None:
        super().__init__(f"expected {expected}; got {got}")
        self.look = look


class Skipped(Exception):  # noqa: N818 - the same
    """Why a check cannot be run here."""


def balancer(inventory: Inventory) -> Journal | None:
    """Where to look when the endpoint does not answer; None if the balancer is not ours."""
    return next((Journal(host, kube_apiserver_lb.COMPONENT.unit) for host in inventory.on("loadbalancer")), None)


@contextmanager
def expecting(expected: str, look: Journal | None = None) -> Iterator[None]:
    """Turns a question without an answer into a failure that says what was expected."""
    try:
        yield
    except Mistake as mistake:
        raise Failed(expected, str(mistake), look) from mistake


def eventually(stage: Stage, expected: str, ask: Callable[[], str | None], *, within: float, look: Journal | None = None) -> None:
    """Ask until the answer is None; else a failure with the last answer."""
    with expecting(expected, look):
        stage.wait(ask, within)


def require(answer: Answer, expected: str, look: Journal | None = None, *, status: int = 200) -> Answer:
    """The answer, if it has the status that it should have."""
    if answer.status != status:
        raise Failed(expected, said(answer), look)
    return answer


def said(answer: Answer) -> str:
    """An answer in one line: its status, and what the server says of it."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    message = document.get("message", "") if isinstance(document, dict) else answer.body.decode(errors="replace")
    return " ".join(f"{answer.status} {message}".split())[:300]
