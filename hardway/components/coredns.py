"""coredns: answers for the names of Services and Pods, and asks others for the rest."""

from __future__ import annotations

from hardway.components.deployment import available
from hardway.components.images import reference
from hardway.desired import Component, Gate, Roll, Template
from hardway.inventory import Inventory
from hardway.observed import RESOLV_CONF


def upstream(inventory: Inventory) -> tuple[str, ...]:
    """Whom it asks for names outside of the cluster; with nobody to ask it would not start, if it were told to."""
    if inventory.networks.nameservers is None:
        return () if inventory.lab else (str(RESOLV_CONF),)  # the host's own; the lab's hosts have none
    return tuple(str(address) for address in inventory.networks.nameservers)


def manifests(inventory: Inventory) -> tuple[Template, ...]:
    """What the cluster carries of it."""
    values = {"image": reference(inventory, "coredns"), "upstream": upstream(inventory)}
    return (Template(source="templates/manifests/coredns.yaml", values=values),)


COMPONENT = Component(
    name="coredns",
    wanted=lambda inventory: bool(inventory.on("worker")),
    manifests=manifests,
    roll=Roll(gates=(Gate(name="available", ask=lambda live, host: available(live, host, "coredns"), within=120),)),
)
