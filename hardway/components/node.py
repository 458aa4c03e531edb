"""A Node of the cluster, as the API has it: what a worker's daemons are asked by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardway.desired import Live
from hardway.errors import Mistake
from hardway.inventory import Host

NODES = "/api/v1/nodes"


def node(live: Live, host: Host) -> Mapping[str, Any]:
    """The Node of a worker; a Mistake if the API does not tell it."""
    answer = live.api(f"{NODES}/{host.name}")
    if answer.status != 200:
        raise Mistake.at(host.name, f"the API server answers {answer.status} to a question for its Node")
    found: Mapping[str, Any] = answer.json()
    return found


def condition(found: Mapping[str, Any], kind: str, unknown: str) -> Mapping[str, str]:
    """What an object of the API says of itself; Unknown, with the given message, if it says nothing yet."""
    conditions = {one["type"]: one for one in found.get("status", {}).get("conditions", ())}
    said: Mapping[str, str] = conditions.get(kind, {"status": "Unknown", "message": unknown})
    return said
