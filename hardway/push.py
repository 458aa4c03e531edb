"""Makes machines and cluster match: components in order, each host by its Plan, each step behind its gates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from hardway import preflight, render
from hardway.components import ALL
from hardway.desired import Blob, Component, Content, Gate, Live, Manifest, Part, Text
from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.observed import Observed
from hardway.pki.strangers import strangers
from hardway.plan import INTERRUPTED, LEFTOVERS, Change, Plan, compare, compare_object, digest
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.remote.protocol import Action, Apply, Move, Removal

Tell = Callable[[str], None]
Programs = Callable[[str], Mapping[str, Blob]]  # architecture -> the binaries for it

PAUSE = 0.2  # seconds between two questions of a gate
AT_ONCE = 16  # hosts asked or served at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Where a cluster stands and what is to be done: the dry run."""

    observed: Mapping[str, Observed]
    parts: Mapping[str, tuple[Part, ...]]
    plans: tuple[Plan, ...]
    objects: tuple[Change, ...]

    @property
    def changes(self) -> int:
        return sum(len(plan.changes) for plan in self.plans) + len(self.objects)


def survey(cluster: Cluster, programs: Programs, *, verify: bool = False) -> Survey:
    """Observe every host, render what each should carry, compare. Changes nothing; stops with every finding if a host cannot be used."""
    inventory, credentials = cluster.inventory, cluster.credentials
    hosts = inventory.hosts
    packages = tuple(sorted({p for component in ALL for p in component.packages}))
    wrong: list[Finding] = []

    def observe(host: Host) -> Observed:
        units = tuple(c.unit for c in ALL if c.on in host.roles)
        seen = cluster.machine(host).observe(render.paths(inventory, host, credentials), units, packages, verify=verify)
        wrong.extend(preflight.refused(host, seen, ALL, time.time()))
        return seen

    objects: list[Change] = []
    asking = threading.Thread(target=lambda: objects.extend(_objects(cluster, ALL)))
    asking.start()
    observed = {host.name: seen for host, seen in each(hosts, observe, AT_ONCE).items()}
    asking.join()
    if wrong:
        raise Mistake(*wrong)
    parts = {h.name: render.parts(inventory, h, observed[h.name].facts, credentials, programs(observed[h.name].facts.arch)) for h in hosts}
    plans = tuple(compare(host, parts[host.name], observed[host.name]) for host in hosts)
    each(hosts, lambda host: _refuse_strangers(cluster, next(plan for plan in plans if plan.host == host)), AT_ONCE)
    return Survey(observed=observed, parts=parts, plans=plans, objects=tuple(objects))


def _refuse_strangers(cluster: Cluster, plan: Plan) -> None:
    """Do not overwrite a host that trusts an authority which this state/ does not know (8)."""
    bundles = [c.file.path for c in plan.changes if c.action == "update" and c.file and _is_bundle(c.file.content)]
    if not bundles:
        return
    there = cluster.machine(plan.host).read(bundles)
    trusts = cluster.credentials.trusts.values()
    found = {name: path for path, text in there.items() for name in strangers(text, trusts, datetime.now(UTC))}
    if found:
        what = f"it trusts {', '.join(found)} ({next(iter(found.values()))}), unknown to this state/"
        step = "bring back the state/ that this cluster was made with, or remove its bundles there to replace its authorities"
        raise Mistake.at(plan.host.name, what, step)


def _is_bundle(content: Content) -> bool:
    return isinstance(content, Text) and "BEGIN CERTIFICATE" in content.text


def finish(cluster: Cluster, found: Survey, tell: Tell) -> bool:
    """Finish what a push that died has begun; then there is another survey to be made."""
    hosts = tuple(plan.host for plan in found.plans if plan.of(INTERRUPTED).changes)
    if not hosts:
        return False
    with cluster.lock(hosts, "finish a push"):
        for host in hosts:
            tell(f"{host.name}: finishing a push that died after its commit")
        _everywhere(hosts, lambda host: cluster.machine(host).apply(Apply()))
    return True


def push(cluster: Cluster, found: Survey, tell: Tell) -> None:
    """Do what the survey says. Binaries travel first, to all hosts side by side; then component by component (2, 6)."""
    concerned = tuple(plan for plan in found.plans if plan.changes)
    if not concerned and not found.objects:
        return
    with cluster.lock(tuple(plan.host for plan in concerned), "push"):
        _store(cluster, found, concerned, tell)
        for component in ALL:
            plans = [plan.of(component.name) for plan in concerned]
            _roll(cluster, component, [p for p in plans if p.changes], found, tell)
            _put(cluster, [c for c in found.objects if c.component == component.name], tell)
        leftovers = [p for p in (plan.of(LEFTOVERS) for plan in concerned) if p.changes]
        _everywhere([p.host for p in leftovers], lambda host: _apply(cluster, next(p for p in leftovers if p.host == host), tell))


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
    """One component over its hosts: together where none runs yet, else one batch after the other, each behind its gates."""
    if not plans:
        return
    by_host = {plan.host: plan for plan in plans}
    runs = any(o.units[component.unit].active == "active" for o in found.observed.values() if component.unit in o.units)
    if runs:
        hosts = _order(cluster, component, list(by_host))
        batches = [hosts[i : i + component.roll.at_once] for i in range(0, len(hosts), component.roll.at_once)]
    else:
        batches = [list(by_host)]
    for batch in batches:
        _everywhere(batch, lambda host: _apply(cluster, by_host[host], tell, first=not runs))
        _everywhere(batch, lambda host: _pass(cluster, component, host, tell))
        _everywhere(batch, lambda host: cluster.machine(host).settle((component.unit,)))


def _order(cluster: Cluster, component: Component, hosts: list[Host]) -> list[Host]:
    last = component.roll.last(cluster) if component.roll.last and len(hosts) > 1 else None
    return sorted(hosts, key=lambda host: host == last)


def _apply(cluster: Cluster, plan: Plan, tell: Tell, *, first: bool = False) -> None:
    for change in plan.changes:
        if change.action not in {"create", "update", "delete"}:
            tell(f"{plan.host.name}: {change.action} {change.what}: {change.why}")
    files = sum(change.action in {"create", "update", "delete"} for change in plan.changes)
    if files:
        tell(f"{plan.host.name}: {plan.changes[0].component}: {files} files")
    cluster.machine(plan.host).apply(request(plan, block=not first))


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


def _pass(cluster: Cluster, component: Component, host: Host, tell: Tell) -> None:
    for gate in component.roll.gates:
        seconds = wait(cluster, gate, host)
        tell(f"{host.name}: {component.name}: {gate.name} after {seconds:.1f} s")


def wait(live: Live, gate: Gate, host: Host) -> float:
    """Ask until the gate opens; the seconds that it took. A Mistake with its last answer if it does not in time."""
    pause = threading.Event()
    began = time.monotonic()
    while True:
        try:
            closed = gate.ask(live, host)
        except Mistake as mistake:
            closed = str(mistake)
        spent = time.monotonic() - began
        if closed is None:
            return spent
        if spent > gate.within:
            raise Mistake.at(
                f"{host.name}: gate {gate.name}", f"still closed after {spent:.0f} s: {closed}", "the hosts after it were left as they were"
            )
        pause.wait(PAUSE)


def _objects(cluster: Cluster, components: Sequence[Component]) -> list[Change]:
    """What differs in the cluster itself, by the API server's own dry run; all of it if no server answers yet."""
    return [change for c in components for m in render.manifests(c, cluster.inventory) if (change := _compared(cluster, c.name, m))]


def _compared(cluster: Cluster, component: str, manifest: Manifest) -> Change | None:
    try:
        live = cluster.api(manifest.path)
        if live.status not in {200, 404}:
            return compare_object(component, manifest, None, None, f"the API server answers {live.status} to us")
        wanted = cluster.apply(manifest, dry_run=True)
    except Mistake:
        return compare_object(component, manifest, None, None, "no API server answers")
    if wanted.status not in {200, 201}:
        raise Mistake.at(manifest.name, f"the API server refuses it: {_message(wanted.json())}")
    return compare_object(component, manifest, live.json() if live.status == 200 else None, wanted.json())


def _put(cluster: Cluster, changes: Sequence[Change], tell: Tell) -> None:
    """Apply objects through a controller that has just passed its gates; as system:masters where the administrator has no rights yet."""
    host = cluster.inventory.on("controller")[0]
    for change in changes:
        if change.manifest is None:
            continue
        answer = cluster.apply(change.manifest, dry_run=False, host=host)
        if answer.status == 403:
            answer = cluster.apply(change.manifest, dry_run=False, host=host, masters=True)
        if answer.status not in {200, 201}:
            raise Mistake.at(change.manifest.name, f"the API server refuses it: {_message(answer.json())}")
        tell(f"{change.manifest.name}: {change.action}")


def _message(status: Any) -> str:
    return str(status.get("message", status)) if isinstance(status, dict) else str(status)
