"""How a cluster stands: its hosts, its daemons, who leads, what differs; asked once, by one command a host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from hardway import preflight, render
from hardway.components import ALL, etcd, installed
from hardway.components.daemon import declared
from hardway.desired import Blob, Component
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Observed, UnitState
from hardway.pki.register import Item, as_found, own_item
from hardway.plan import compare
from hardway.preflight import Case
from hardway.push import objects, observe
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import Failure, attempt

AT_ONCE = 16  # hosts
CLUSTER = "cluster"  # where a finding is that belongs to no host


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One component on one host."""

    component: str
    unit: str
    state: UnitState | None  # None: there is no such unit
    declared: str | None  # the version that the inventory names
    runs: str | None = None  # the version that answers
    why: str = ""  # it is not well
    cluster: int = 0  # of a member of etcd

    @property
    def since(self) -> str:
        return self.state.since if self.state and self.state.active == "active" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One host."""

    host: Host
    observed: Observed | None = None  # None: it does not answer
    daemons: tuple[Daemon, ...] = ()
    why: str = ""  # it does not answer
    changes: int | None = None  # that a push would make; None if that is not known
    findings: tuple[Finding, ...] = ()  # what would stop a push here


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A cluster, as it was found."""

    cluster: str
    standings: tuple[Standing, ...]
    objects: int | None  # changes that a push would make in the cluster; None if no server says
    leaders: Mapping[str, str | None] = field(default_factory=dict)  # component -> host
    expires: Item | None = None  # what ends first
    now: datetime

    @property
    def down(self) -> tuple[tuple[str, str], ...]:
        """Where something is down, and what."""
        found = [(one.host.name, f"does not answer: {one.why}") for one in self.standings if one.why]
        for one in self.standings:
            found += [(one.host.name, f"{daemon.component}: {daemon.why}") for daemon in one.daemons if daemon.why]
            if one.observed and one.observed.restoring:
                found.append((one.host.name, "a restore of etcd is under way or was cut short: run the same ./inv etcd.restore again"))
            elif one.observed and one.observed.died:  # else the restore comes first: a push waits for it
                found.append((one.host.name, "a push was cut short after its commit: ./inv push finishes it"))
        if len({daemon.cluster for one in self.standings for daemon in one.daemons if daemon.cluster}) > 1:
            found.append((CLUSTER, "etcd's members do not belong to one cluster: a restore has reached only some of them"))
        found += [(CLUSTER, f"{component}: nobody leads") for component, host in self.leaders.items() if host is None]
        return tuple(found)

    @property
    def owed(self) -> tuple[tuple[str, str], ...]:
        """Host and unit of restarts that were promised and not proved."""
        return tuple((one.host.name, unit) for one in self.standings if one.observed for unit in sorted(one.observed.owed))

    @property
    def changes(self) -> int | None:
        """How many changes a push would make; None if a part of it is not known."""
        parts = [self.objects, *(one.changes for one in self.standings)]
        return None if None in parts else sum(part for part in parts if part is not None)

    @property
    def days(self) -> int | None:
        """Until the first certificate ends."""
        return (self.expires.not_after - self.now).days if self.expires and self.expires.not_after else None

    @property
    def document(self) -> dict[str, Any]:
        """As `--json` gives it to programs."""
        return {
            "schema": 1,
            "cluster": self.cluster,
            "well": not self.down,
            "down": [{"where": where, "what": what} for where, what in self.down],
            "hosts": [_host(one) for one in self.standings],
            "leaders": dict(self.leaders),
            "changes": self.changes,
            "objects": self.objects,
            "expires": {
                "name": self.expires.name,
                "host": self.expires.host,
                "not_after": self.expires.not_after.isoformat() if self.expires.not_after else None,
                "days": self.days,
            }
            if self.expires
            else None,
        }


def _host(one: Standing) -> dict[str, Any]:
    seen = one.observed
    return {
        "name": one.host.name,
        "address": str(one.host.address),
        "roles": sorted(one.host.roles),
        "answers": seen is not None,
        "why": one.why,
        "changes": one.changes,
        "owed": sorted(seen.owed) if seen else [],
        "interrupted": bool(seen and seen.died),
        "restoring": seen.restoring if seen else "",
        "components": [
            {
                "name": daemon.component,
                "unit": daemon.unit,
                "active": daemon.state.active if daemon.state else "not installed",
                "since": daemon.since,
                "restarts": daemon.state.restarts if daemon.state else 0,
                "declared": daemon.declared,
                "runs": daemon.runs,
                "well": not daemon.why,
                "why": daemon.why,
            }
            for daemon in one.daemons
        ],
    }


Programs = Callable[[str], Mapping[str, Blob]]  # architecture -> the binaries for it


def status(cluster: Cluster, programs: Programs, items: tuple[Item, ...], now: datetime, hosts: tuple[Host, ...]) -> Status:
    """Look at hosts and all their daemons at once; what does not answer is told, and hides nothing of the rest."""
    with ThreadPoolExecutor(max_workers=4) as beside:  # the API is asked while the hosts are
        drift = beside.submit(_objects, cluster)
        leading = {component.name: beside.submit(_leader, cluster, component) for component in ALL if component.leader}
        answers = attempt(hosts, lambda host: _standing(cluster, host, programs), AT_ONCE)
        leaders = {name: answer.result() for name, answer in leading.items()}
        changed = drift.result()
    standings = tuple(
        Standing(host=host, why=str(answer.error).partition("\n")[0]) if isinstance(answer, Failure) else answer[0]
        for host, answer in answers.items()
    )
    standings = _judged(standings, [answer[1] for answer in answers.values() if not isinstance(answer, Failure)])
    items = (*items, *(item for standing in standings for item in _own(cluster.inventory, standing)))
    return Status(
        cluster=cluster.inventory.cluster,
        standings=standings,
        objects=changed,
        leaders=leaders,
        expires=min((item for item in items if item.not_after), key=lambda item: item.not_after or now, default=None),
        now=now,
    )


def _own(inventory: Inventory, standing: Standing) -> Iterator[Item]:
    """The certificates that daemons have asked for themselves: only their host knows until when they are good."""
    there = standing.observed.certificates if standing.observed else {}
    for component in installed(inventory, standing.host):
        if (own := component.own(inventory)) and own.path in there:
            yield as_found(own_item(component.name, own, standing.host), there[own.path])


def _judged(standings: tuple[Standing, ...], cases: list[Case]) -> tuple[Standing, ...]:
    """Each host with what stands against a push there; all are judged together, for what one has lost the others may have."""
    found = preflight.findings([replace(case, observed=replace(case.observed, restoring="")) for case in cases])
    return tuple(replace(one, findings=tuple(finding for finding in found if finding.where == one.host.name)) for one in standings)


def _standing(cluster: Cluster, host: Host, programs: Programs) -> tuple[Standing, Case]:
    """One host: one command, then its daemons' own answers, each over the network."""
    case = observe(cluster, host)
    seen = case.observed
    standing = Standing(
        host=host,
        observed=seen,
        daemons=tuple(_daemon(cluster, host, component, seen.units.get(component.unit)) for component in case.components),
        changes=_changes(cluster, host, seen, programs),
    )
    return standing, case


def _daemon(cluster: Cluster, host: Host, component: Component, state: UnitState | None) -> Daemon:
    wanted = declared(component, cluster.inventory)
    found = Daemon(component=component.name, unit=component.unit, state=state, declared=wanted)
    if state is None:
        return replace(found, why="is not installed")
    if state.active != "active":
        return replace(found, why=f"is {state.active} ({state.sub})")
    try:
        # The first gate says whether it is up; those after it look further than at this one daemon.
        first = component.roll.gates[0] if component.roll.gates else None
        why = first.ask(cluster, host) if first and not first.command else None
        runs = component.version(cluster, host) if component.version else None
        member = etcd.status(cluster, host).cluster if component is etcd.COMPONENT else 0
    except Mistake as mistake:
        return replace(found, why=str(mistake))
    return replace(found, why=why or "", runs=runs, cluster=member)


def _changes(cluster: Cluster, host: Host, seen: Observed, programs: Programs) -> int | None:
    try:
        parts = render.parts(cluster.inventory, host, seen.facts, cluster.credentials, programs(seen.facts.arch))
    except Mistake:
        return None
    return len(compare(host, parts, seen).changes)


def _objects(cluster: Cluster) -> int | None:
    try:
        return len(objects.survey(cluster).changes)
    except Mistake:
        return None


def _leader(cluster: Cluster, component: Component) -> str | None:
    try:
        return component.leader(cluster) if component.leader else None
    except Mistake:
        return None
