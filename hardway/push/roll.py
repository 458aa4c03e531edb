"""Plans carried out: binaries first, then component by component, host by host, each behind its gates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from hardway.components import ALL
from hardway.desired import Blob, Component, Live, Text
from hardway.errors import Finding, Mistake, Retreat, Unready
from hardway.inventory import Host
from hardway.observed import Observed
from hardway.plan import INTERRUPTED, LEFTOVERS, Plan, digest
from hardway.push import admission, objects
from hardway.push.gates import closed, wait
from hardway.push.limit import paced, refuse_too_few, runs_elsewhere
from hardway.push.survey import AT_ONCE, Survey
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.remote.protocol import Action, Apply, Move, Removal

Tell = Callable[[str], None]

FILES = frozenset({"create", "update", "delete"})  # the actions on files; the others are a unit's
LOOPS = 3  # restarts by systemd after which a unit is taken for one that will not come up
STEADY = 2  # seconds that a restarted unit stays up before the next host is touched


def settled(cluster: Cluster, look: Callable[[], Survey], tell: Tell) -> Survey:
    """A survey of hosts where nothing is half-way: what a push that died has begun is finished, and then looked at again."""
    found = look()
    hosts = tuple(plan.host for plan in found.plans if plan.of(INTERRUPTED).changes)
    if not hosts:
        return found
    with cluster.lock(hosts, "finish a push"):
        for host in hosts:
            tell(f"{host.name}: finishing a push that died after its commit")
        _everywhere(hosts, lambda host: _heal(cluster, host, tell))
    return look()


def _heal(cluster: Cluster, host: Host, tell: Tell) -> None:
    try:
        cluster.machine(host).apply(Apply())
    except Retreat as retreat:  # what the survey after it finds is tried again
        tell(f"{host.name}: went back to the files before: {'; '.join(str(finding) for finding in retreat.findings)}")


def push(cluster: Cluster, found: Survey, tell: Tell, *, parallel: int = 0) -> None:
    """Do what the survey says. Binaries travel first, to all hosts side by side; then component by component (2, 6).

    So many hosts at a time as each component takes, or `parallel` of those that may go side by side at all.
    """
    concerned = tuple(plan for plan in found.plans if plan.changes)
    if not concerned and not found.objects:
        return
    refuse_too_few(cluster, found)
    with cluster.lock(tuple(plan.host for plan in concerned), "push"):
        _store(cluster, found, concerned, tell)
        for component in (paced(component, parallel) for component in ALL):
            plans = [plan.of(component.name) for plan in concerned]
            mine = [c for c in found.objects if c.component == component.name]
            if component.joins:
                objects.put(cluster, mine, tell)
            _roll(cluster, component, [p for p in plans if p.changes], found, tell)
            if mine and not component.joins:
                objects.put(cluster, mine, tell)
        _come_up(cluster, found, tell)
        leftovers = [p for p in (plan.of(LEFTOVERS) for plan in concerned) if p.changes]
        _everywhere([p.host for p in leftovers], lambda host: _apply(cluster, next(p for p in leftovers if p.host == host), tell))
        objects.put(cluster, [c for c in found.objects if c.component == LEFTOVERS], tell)


def _come_up(cluster: Cluster, found: Survey, tell: Tell) -> None:
    """What is nothing but objects comes up side by side, and a controller's API is what is asked."""
    for component in ALL:
        if not component.on and any(change.component == component.name for change in found.objects):
            try:
                _pass(cluster, component, cluster.inventory.on("controller")[0], tell)
            except Mistake as mistake:
                raise Unready(*mistake.findings) from mistake


def _everywhere(hosts: Sequence[Host], do: Callable[[Host], object]) -> None:
    each(hosts, do, AT_ONCE)


def _store(cluster: Cluster, found: Survey, plans: Sequence[Plan], tell: Tell) -> None:
    """Bring each host the binaries that it has not got, into a store that nothing reads yet."""
    missing = {plan.host: _missing(plan, found.observed[plan.host.name]) for plan in plans}
    total = sum(blob.size for blobs in missing.values() for blob in blobs)
    if not total:
        return
    tell(f"sending {total / 1e6:.0f} MB of binaries to {sum(1 for blobs in missing.values() if blobs)} hosts")

    def store(host: Host) -> None:
        cluster.machine(host).store(missing[host])
        tell(f"{host.name}: has its binaries")

    _everywhere([host for host, blobs in missing.items() if blobs], store)


def _missing(plan: Plan, observed: Observed) -> tuple[Blob, ...]:
    return tuple({blob.sha256: blob for blob in plan.blobs if blob.sha256 not in observed.stored}.values())


def _roll(cluster: Cluster, component: Component, plans: Sequence[Plan], found: Survey, tell: Tell) -> None:
    """One component over its hosts: together where none is up, else one batch after the other, each behind its gates."""
    if not plans:
        return
    by_host = {plan.host: plan for plan in plans}
    runs = any(o.units[component.unit].active == "active" for o in found.observed.values() if component.unit in o.units)
    runs = runs or runs_elsewhere(cluster, component, found)
    for batch in _batches(cluster, component, by_host) if runs else [list(by_host)]:
        if runs:
            _refuse_second_loss(cluster, component, [by_host[host] for host in batch])
            for host in batch:
                _hand_over(cluster, component, by_host[host], tell)
            each(batch, lambda host: _replace(cluster, component, by_host[host], tell), len(batch))
        else:
            _everywhere(batch, lambda host: _bring(cluster, component, by_host[host], tell, first=True))
            _everywhere(batch, lambda host: _pass(cluster, component, host, tell))
            _everywhere(batch, lambda host: cluster.machine(host).settle((component.unit,)))


def _replace(cluster: Cluster, component: Component, plan: Plan, tell: Tell) -> None:
    """One instance, changed and proved; or as it was before."""
    try:
        _bring(cluster, component, plan, tell, first=False)
        _prove(cluster, component, plan, tell)
    except Retreat as retreat:
        raise Mistake(*retreat.findings, _after_retreat(cluster, component, plan.host)) from retreat


def _prove(cluster: Cluster, component: Component, plan: Plan, tell: Tell) -> None:
    """Its gates, and that it stays up; else its host goes back."""
    machine, restarted = cluster.machine(plan.host), _restarts(plan)
    try:
        _pass(cluster, component, plan.host, tell, lambda: _loops(cluster, component, plan.host) if restarted else None)
    except Mistake as red:
        if not restarted:
            raise
        try:
            machine.retract(component.unit)
        except Mistake as told:
            raise type(told)(*red.findings, *told.findings) from red
        raise
    machine.settle((component.unit,), steady=STEADY if restarted else 0)


def _loops(live: Live, component: Component, host: Host) -> str | None:
    """Why nobody needs to wait for an instance any longer: it ends again and again."""
    times = live.run(host, "systemctl", "show", "--property=NRestarts", "--value", component.unit).strip()
    return f"systemd has restarted {component.unit} {times} times" if times.isdecimal() and int(times) >= LOOPS else None


def _after_retreat(cluster: Cluster, component: Component, host: Host) -> Finding:
    """How an instance does with the files before."""
    try:
        for gate in component.roll.gates:
            if not gate.arrival:
                wait(cluster, gate, host)
        cluster.machine(host).settle((component.unit,), steady=STEADY)
    except Mistake as mistake:
        what = f"{component.name} went back to its files before, and is not well with them either: {mistake}"
        return Finding(where=host.name, what=what, next_step=f"see `journalctl -u {component.unit}` there")
    what = f"{component.name} went back to its files before, and is well again; no other host was changed after it"
    return Finding(where=host.name, what=what, next_step="mend what it says above, and push again")


def _refuse_second_loss(cluster: Cluster, component: Component, plans: Sequence[Plan]) -> None:
    """Take down no instance that is well while another of its component is not: of three, one may be missing (6)."""
    going = [plan.host for plan in plans if _interrupts(plan)]
    if not any(closed(cluster, component, host) is None for host in going):
        return  # nothing to lose there; this may be what mends it
    for host in component.hosts(cluster.inventory):
        if host not in going and (why := closed(cluster, component, host)):
            what = f"{component.name} is not well there, so no other is restarted: {why}"
            raise Mistake.at(host.name, what, f"see `journalctl -u {component.unit}` there, mend it, and push again")


def _restarts(plan: Plan) -> bool:
    return any(change.action in {"restart", "reload"} for change in plan.changes)


def _interrupts(plan: Plan) -> bool:
    return any(change.action in {"restart", "stop"} for change in plan.changes)


def _hand_over(cluster: Cluster, component: Component, plan: Plan, tell: Tell) -> None:
    """Let another instance lead before this one goes: part of its restart, as the plan has it (3)."""
    lead = component.roll.lead
    if lead is None or not _interrupts(plan):
        return
    try:
        heir = lead.heir(cluster, plan.host)
        if heir is None:
            return
        asks = next(one for one in ALL if one.name == lead.asked_by)
        with cluster.paused(asks.hosts(cluster.inventory), asks.unit) as still:
            began = time.monotonic()
            lead.hand_over(cluster, plan.host, heir)
    except Mistake as mistake:
        tell(f"{plan.host.name}: {component.name} could not hand over its lead, so its restart shows for some seconds: {mistake}")
        return
    seconds = time.monotonic() - began
    tell(f"{plan.host.name}: {component.name}: {heir.name} leads now; {asks.name} stood still on {len(still)} hosts for {seconds:.1f} s")


def _batches(cluster: Cluster, component: Component, by_host: Mapping[Host, Plan]) -> list[list[Host]]:
    """Those that are not well first, the one that leads last; all together where none is well and none would be restarted.

    When every certificate has expired, no member of etcd becomes well before the others have theirs. But that none looks well
    may also be our own view, such as a firewall's: so a restart goes one host at a time whatever is seen.
    """
    hosts = list(by_host)
    if len(hosts) < 2:
        return [hosts]
    ill = {host for host in hosts if closed(cluster, component, host)}
    if len(ill) == len(hosts) and not any(_interrupts(plan) for plan in by_host.values()):
        return [hosts]
    last = component.roll.lead.of(cluster) if component.roll.lead else None
    ordered = sorted(hosts, key=lambda host: (host not in ill, host == last))
    return [ordered[i : i + component.roll.at_once] for i in range(0, len(ordered), component.roll.at_once)]


def _bring(cluster: Cluster, component: Component, plan: Plan, tell: Tell, *, first: bool) -> None:
    """Apply a plan; where a certificate has to be asked for, nobody waits for the start, since that waits for the answer."""
    own = component.own(cluster.inventory)
    if own is None or not any(change.action == "bootstrap" for change in plan.changes):
        _apply(cluster, plan, tell, first=first)
    else:
        admission.admit(cluster, plan.host, own, lambda: _apply(cluster, plan, tell, first=True), tell)


def _apply(cluster: Cluster, plan: Plan, tell: Tell, *, first: bool = False) -> None:
    tell(f"{plan.host.name}: {plan.changes[0].component}: {', '.join(_told(plan))}")
    cluster.machine(plan.host).apply(request(plan, block=not first))


def _told(plan: Plan) -> Iterator[str]:
    """What an apply does, in few words: how many files, then each unit's action and why."""
    files = sum(change.action in FILES for change in plan.changes)
    if files:
        yield f"{files} file{'s' if files > 1 else ''}"
    yield from (f"{change.action} ({change.why})" for change in plan.changes if change.action not in FILES)


def request(plan: Plan, *, block: bool = True) -> Apply:
    """A Plan as a host is asked for it; without `block` units are started without waiting until they are up."""
    moves, removals, actions, contents = [], [], [], []
    for change in plan.changes:
        before = change.before.sha256 if change.before else None
        match change.action:
            case "create" | "update" if change.file:
                file = change.file
                moves.append(Move(path=file.path, owner=file.owner, mode=file.mode, before=before, after=digest(file.content)))
                if not isinstance(file.content, Blob):
                    contents.append(file.content.text.encode() if isinstance(file.content, Text) else file.content.data)
            case "delete" if before:
                removals.append(Removal(path=PurePosixPath(change.what), before=before))
            case "start" | "restart" if not block:
                actions.append(Action(verb="restart-no-block", unit=change.what))
            case "enable" | "disable" | "start" | "stop" | "restart" | "reload":
                actions.append(Action(verb=change.action, unit=change.what))
    owed = frozenset(action.unit for action in actions if action.verb in {"start", "restart", "restart-no-block", "reload"})
    return Apply(moves=tuple(moves), removals=tuple(removals), actions=tuple(actions), owed=owed, contents=tuple(contents))


def _pass(cluster: Cluster, component: Component, host: Host, tell: Tell, doomed: Callable[[], str | None] = lambda: None) -> None:
    if not component.roll.gates:
        return
    seconds = sum(wait(cluster, gate, host, doomed) for gate in component.roll.gates)
    tell(f"{host.name}: {component.name}: {', '.join(gate.name for gate in component.roll.gates)} after {seconds:.1f} s")
