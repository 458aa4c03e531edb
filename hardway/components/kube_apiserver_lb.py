"""kube-apiserver-lb: HAProxy in front of the API servers, where the inventory asks for it."""

from __future__ import annotations

from hardway.components.daemon import Draft, config, unit, user
from hardway.desired import Component, Gate, Live, Needs, Pickup, Roll
from hardway.inventory import Host, Inventory
from hardway.observed import Facts


def answers(live: Live, host: Host) -> str | None:  # noqa: ARG001 - every gate has this signature
    """None if an API server answers through the balancer."""
    answer = live.api("/readyz")
    return None if answer.status == 200 else f"/readyz through it says {answer.status}"


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a balancer carries."""
    values = {"bind": host.address, "controllers": inventory.on("controller")}
    return (
        user("kube-apiserver-lb"),
        config("kube-apiserver-lb", "haproxy.cfg", pickup=Pickup.RELOAD, values=values),
        unit("kube-apiserver-lb", inventory),
    )


COMPONENT = Component(
    name="kube-apiserver-lb",
    on=("loadbalancer",),
    files=files,
    packages=("haproxy",),
    needs=lambda inventory: Needs(ports=(inventory.endpoint.port,), memory=30),
    roll=Roll(gates=(Gate(name="answers", ask=answers, within=30),)),
)
