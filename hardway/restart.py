"""Daemons started anew where nothing has changed: in the order and behind the gates of a push, one host after the other."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping

from hardway.components import ALL
from hardway.desired import Component
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.plan import Action, Change, Plan
from hardway.push import Survey, push
from hardway.remote.cluster import Cluster

Tell = Callable[[str], None]

# What runs all the time; a balancer takes its configuration anew without letting go of a connection.
HOW: Mapping[str, Action] = {
    "etcd": "restart",
    "kube-apiserver": "restart",
    "kube-apiserver-lb": "reload",
    "kube-controller-manager": "restart",
    "kube-scheduler": "restart",
    "containerd": "restart",
    "kubelet": "restart",
    "kube-proxy": "restart",
}


def named(name: str) -> Component:
    """The component of a name; a Mistake with the near one if it is none that runs."""
    if name not in HOW:
        near = difflib.get_close_matches(name, HOW, n=1)
        raise Mistake.at("restart", f"there is no {name} that runs", f"did you mean {near[0]}?" if near else f"it takes {', '.join(HOW)}")
    return next(one for one in ALL if one.name == name)


def restart(cluster: Cluster, component: Component, hosts: tuple[Host, ...], tell: Tell) -> dict[Host, float]:
    """Restart an instance, see it well, and go on to the next; the seconds that each took. One that leads goes last."""
    if not hosts:
        raise Mistake.at("restart", f"{component.name} does not run there")
    last = component.roll.lead.of(cluster) if component.roll.lead and len(hosts) > 1 else None
    took = {}
    for host in sorted(hosts, key=lambda host: host == last):
        began = time.monotonic()
        push(cluster, _asked(cluster, component, host), tell)
        took[host] = time.monotonic() - began
    return took


def _asked(cluster: Cluster, component: Component, host: Host) -> Survey:
    """What is to be done on one host: this alone, and nothing if a push has still to end there."""
    observed = cluster.machine(host).observe(frozenset(), (component.unit,))
    if observed.died:
        raise Mistake.at(host.name, "a push died there after its commit", "run ./inv push, which finishes it")
    change = Change(component=component.name, action=HOW[component.name], what=component.unit, why="it was asked for")
    plan = Plan(host=host, changes=(change,))
    return Survey(observed={host.name: observed}, parts={}, plans=(plan,), objects=(), texts={})
