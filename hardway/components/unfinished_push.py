"""unfinished-push: what a power cut left half-way is finished at boot, before anything of ours starts."""

from __future__ import annotations

from hardway.components.daemon import Draft, unit
from hardway.desired import Component, Roll
from hardway.inventory import Host, Inventory
from hardway.observed import Facts


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """The unit; what it runs comes with each push, beside the files that it swaps."""
    return (unit("unfinished-push", inventory),)


COMPONENT = Component(name="unfinished-push", on=("controller", "loadbalancer", "worker"), files=files, roll=Roll(at_once=16))
