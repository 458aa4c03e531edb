"""metrics-server: what nodes and Pods use, as an API that the API servers pass on: `kubectl top`."""

from __future__ import annotations

from hardway.components.deployment import available
from hardway.components.images import reference
from hardway.components.node import condition
from hardway.desired import Component, Gate, Live, Roll, Template
from hardway.inventory import Host, Inventory

SERVICE = "v1beta1.metrics.k8s.io"


def serves(live: Live, host: Host) -> str | None:
    """None if a host's API server passes questions on to it, and it answers; else what is said of it."""
    if live.inventory.network == "none":
        return None
    answer = live.api(f"/apis/apiregistration.k8s.io/v1/apiservices/{SERVICE}", host=host)
    if answer.status != 200:
        return f"the API server answers {answer.status} to a question for APIService {SERVICE}"
    found = condition(answer.json(), "Available", "no word of it yet")
    if found["status"] != "True":
        return f"APIService {SERVICE}: Available is {found['status']}: {found.get('message', '')}"
    answer = live.api("/apis/metrics.k8s.io/v1beta1/nodes", host=host)
    return None if answer.status == 200 else f"it answers {answer.status}"


def manifests(inventory: Inventory) -> tuple[Template, ...]:
    """What the cluster carries of it."""
    return (Template(source="templates/manifests/metrics-server.yaml", values={"image": reference(inventory, "metrics-server")}),)


COMPONENT = Component(
    name="metrics-server",
    wanted=lambda inventory: bool(inventory.on("worker")),
    manifests=manifests,
    roll=Roll(
        gates=(
            Gate(name="available", ask=lambda live, host: available(live, host, "metrics-server"), within=120),
            Gate(name="serves", ask=serves, within=120),
        )
    ),
)
