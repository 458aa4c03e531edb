"""A push of some hosts, or at another pace: what it must still hold to (6)."""

from __future__ import annotations

from dataclasses import replace

from hardway.components import etcd
from hardway.desired import Component
from hardway.errors import Mistake
from hardway.push.gates import closed
from hardway.push.survey import Survey
from hardway.remote.cluster import Cluster


def runs_elsewhere(cluster: Cluster, component: Component, found: Survey) -> bool:
    """Whether what goes one by one is up on a host that this push leaves alone: then it is no first start."""
    if component.roll.at_once > 1:
        return False
    others = [host for host in component.hosts(cluster.inventory) if host.name not in found.observed]
    return any(closed(cluster, component, host) is None for host in others)


def paced(component: Component, parallel: int) -> Component:
    """A component at the pace that was asked for; what goes one by one stays so."""
    if not parallel or component.roll.at_once == 1:
        return component
    return replace(component, roll=replace(component.roll, at_once=parallel))


def refuse_too_few(cluster: Cluster, found: Survey) -> None:
    """Members of etcd become well together: of a first start without most of them nothing would come."""
    members = etcd.COMPONENT.hosts(cluster.inventory)
    starts = [plan.host for plan in found.plans if any(one.action == "start" for one in plan.of(etcd.COMPONENT.name).changes)]
    absent = [host for host in members if host.name not in found.observed]
    if not starts or 2 * len(absent) < len(members) or runs_elsewhere(cluster, etcd.COMPONENT, found):
        return
    where = ", ".join(host.name for host in starts)
    what = f"etcd would start on {where}, and becomes well on most of its {len(members)} members or on none"
    raise Mistake.at("--hosts", what, "name more controllers, or leave it away")
