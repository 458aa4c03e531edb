"""People who were given access: whose certificate it is, who signed it, whom its kubeconfig believes; kept in state/ until it ends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from hardway.errors import Mistake
from hardway.state import State

FILE = "people.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A kubeconfig that a person has; its key is nowhere else."""

    user: str
    fingerprint: str  # SHA-256 of its certificate in hex, as audit logs name it
    signer: str  # the common name of the generation that signed it
    believes: tuple[str, ...]  # the generations by which it knows an API server
    until: datetime


def given(state: State, now: datetime) -> tuple[Access, ...]:
    """Every access that has not ended, in the order in which they were given."""
    if not state.path(FILE).exists():
        return ()
    try:
        known = tuple(_read(one) for one in json.loads(state.read(FILE)))
    except (ValueError, TypeError, KeyError):
        what = "it is not the list of the people who were given access"
        raise Mistake.at(state.where(FILE), what, "restore it, or remove it: then a rotation names nobody of them") from None
    return tuple(one for one in known if one.until > now)


def give(state: State, access: Access, now: datetime) -> None:
    """Write it down, beside the others that have not ended."""
    with state.locked():
        listed = [{**asdict(one), "until": one.until.isoformat()} for one in (*given(state, now), access)]
        state.write(FILE, (json.dumps(listed, indent=1) + "\n").encode())


def _read(one: dict[str, Any]) -> Access:
    return Access(**{**one, "believes": tuple(one["believes"]), "until": datetime.fromisoformat(one["until"])})
