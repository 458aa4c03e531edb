"""Several instances, one leader: the check of a component's Lease."""

from __future__ import annotations

from functools import partial

from hardway.components.lease import Lease, lease
from hardway.desired import Check, Component, Permission, Stage
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.smoke.verdict import Failed, Journal, expecting


def check(name: str, component: Component) -> Check:
    """That one instance of a component leads, and goes on doing so."""
    return Check(
        name=name,
        component=component.name,
        proves=f"of the instances of {component.name} exactly one leads: it holds the Lease and renews it",
        run=partial(leads, component),
        permissions=(
            Permission(resource="leases", group="coordination.k8s.io", verbs=("get",), namespace="kube-system", name=component.name),
        ),
        sabotage="every instance is stopped; the Lease still names the last holder",
    )


def leads(component: Component, stage: Stage) -> str:
    """Look at the Lease until it has been renewed."""
    hosts = component.hosts(stage.inventory)
    everywhere = Journal(hosts[0], component.unit) if hosts else None
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{component.name}"
    first = lease(stage, component.name)
    if first is None or not first.holder:
        raise Failed(f"{component.name}'s lease to have a holder", "none has taken it", everywhere)
    holder = next((host for host in hosts if host.name == first.host), None)
    if hosts and holder is None:
        raise Failed(f"the holder to run on one of {', '.join(host.name for host in hosts)}", first.holder, everywhere)
    seen = [first]

    def renewed() -> str | None:
        now = lease(stage, component.name)
        if now is None:
            return "the lease is gone"
        seen.append(now)
        return None if now.renewed > first.renewed else f"it was renewed {now.age:.0f} s ago for the last time"

    expected = f"{first.holder} to renew the lease within {first.seconds:.0f} s"
    with expecting(expected, _look(holder, component) or everywhere):
        stage.wait(renewed, first.seconds)
    return _evidence(path, first, seen[-1], holder, component)


def journal(stage: Stage, component: Component) -> Journal | None:
    """The journal of the instance that leads, if one can be told."""
    try:
        held = lease(stage, component.name)
    except Mistake:
        return None
    return next((Journal(host, component.unit) for host in component.hosts(stage.inventory) if held and host.name == held.host), None)


def _evidence(path: str, first: Lease, last: Lease, holder: Host | None, component: Component) -> str:
    if last.holder != first.holder:
        raise Failed(f"{first.holder} to stay the holder", f"{last.holder} is it now", _look(holder, component))
    times = f"{first.renewed:%H:%M:%S.%f} and {last.renewed:%H:%M:%S.%f}"
    lasts = f"good for {last.seconds:.0f} s, changed hands {last.transitions} times"
    return f"GET {path}: held by {last.holder}, renewed at {times}, {lasts}"


def _look(holder: Host | None, component: Component) -> Journal | None:
    return Journal(holder, component.unit) if holder else None
