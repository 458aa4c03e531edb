"""Where a cluster stands, and what is to be done: the dry run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath

from hardway import preflight, render
from hardway.components import ALL, installed
from hardway.desired import Blob, Part, Text
from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.observed import Observed
from hardway.pki.strangers import unknown
from hardway.plan import Change, Plan, compare
from hardway.preflight import Case
from hardway.push import objects
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import Failure, attempt

Programs = Callable[[str], Mapping[str, Blob]]  # architecture -> the binaries for it
Warn = Callable[[Finding], None]
Texts = Mapping[PurePosixPath, str]

AT_ONCE = 16  # hosts asked or served at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Where a cluster stands and what is to be done."""

    observed: Mapping[str, Observed]  # by host, as all of these
    parts: Mapping[str, tuple[Part, ...]]
    plans: tuple[Plan, ...]
    objects: tuple[Change, ...]
    texts: Mapping[str, Texts]  # what the texts that differ say now
    wrong: tuple[Finding, ...] = ()  # why there is no plan for some hosts; only where it was made partly

    @property
    def changes(self) -> int:
        return sum(len(plan.changes) for plan in self.plans) + len(self.objects)


def observe(cluster: Cluster, host: Host, *, verify: bool = False) -> Case:
    """One host by one command: what it is to carry, what it carries, and what preflight asks of it."""
    inventory, mine = cluster.inventory, installed(cluster.inventory, host)
    paths, units = render.paths(inventory, host, cluster.credentials), tuple(component.unit for component in mine)
    began = time.time()
    seen = cluster.machine(host).observe(paths, units, preflight.asked(inventory, mine), verify=verify)
    return Case(inventory=inventory, host=host, components=mine, observed=seen, asked=began, now=time.time())


def look(cluster: Cluster, hosts: Iterable[Host], *, verify: bool = False) -> tuple[dict[str, Observed], tuple[Finding, ...]]:
    """Observe hosts, one command each; and everything that stands against a push to them, also why one did not answer."""
    answers = attempt(hosts, partial(observe, cluster, verify=verify), AT_ONCE).values()
    cases = [answer for answer in answers if not isinstance(answer, Failure)]
    failed = [finding for answer in answers if isinstance(answer, Failure) for finding in answer.error.findings]
    return {case.host.name: case.observed for case in cases}, (*failed, *preflight.findings(cases))


def survey(
    cluster: Cluster,
    programs: Programs,
    *,
    verify: bool = False,
    some: tuple[Host, ...] = (),
    partly: bool = False,
    warn: Warn = lambda _: None,
) -> Survey:
    """Observe every host, or `some`; render, compare. Changes nothing; stops with every finding if a host cannot be used.

    Or, to be shown `partly`, goes on with the others.
    """
    inventory, credentials = cluster.inventory, cluster.credentials
    hosts = some or inventory.hosts
    with ThreadPoolExecutor(max_workers=1) as beside:  # the API is asked while the hosts are
        asking = beside.submit(objects.survey, cluster)
        observed, found = look(cluster, hosts, verify=verify)
    for finding in preflight.merged(finding for finding in found if finding.warning):
        warn(finding)
    wrong = [finding for finding in found if not finding.warning]
    if wrong and not partly:
        raise Mistake(*wrong)
    in_cluster = asking.result().among(hosts, inventory)
    for finding in in_cluster.departed:
        warn(finding)
    hosts = tuple(host for host in hosts if host.name in observed and not any(host.name == finding.where for finding in wrong))
    parts = {h.name: render.parts(inventory, h, observed[h.name].facts, credentials, programs(observed[h.name].facts.arch)) for h in hosts}
    plans = {host: compare(host, parts[host.name], observed[host.name]) for host in hosts}
    texts: dict[Host, Texts] = {}
    for host, old in attempt(
        [host for host in hosts if _updates(plans[host])], lambda host: _refused(cluster, plans[host]), AT_ONCE
    ).items():
        if isinstance(old, Failure):
            wrong += old.error.findings
            del plans[host]
        else:
            texts[host] = old
    if wrong and not partly:
        raise Mistake(*wrong)
    return Survey(
        observed=observed,
        parts=parts,
        plans=tuple(plans.values()),
        objects=in_cluster.changes,
        texts={host.name: found for host, found in texts.items()},
        wrong=tuple(wrong),
    )


def _refused(cluster: Cluster, plan: Plan) -> Texts:
    """The old texts of a host; a Mistake if one says something that may not be overwritten."""
    updates = _updates(plan)
    old = cluster.machine(plan.host).read(updates)
    if what := unknown(old, cluster.credentials.trusts.values(), datetime.now(UTC)):  # (8)
        step = "bring its state/ back (`./inv state.restore`, `./inv state.recover`), or remove its bundles to replace its authorities"
        raise Mistake.at(plan.host.name, what, step)
    guards = {component.name: component.guard for component in ALL}
    for path, change in updates.items():
        guard = guards.get(change.component)
        wanted = change.file.content.text if change.file and isinstance(change.file.content, Text) else ""
        if guard and path in old and (finding := guard(plan.host, path, old[path], wanted)):
            raise Mistake(finding)
    return old


def _updates(plan: Plan) -> dict[PurePosixPath, Change]:
    """The changes of texts that are there already."""
    changes = (change for change in plan.changes if change.action == "update" and change.file)
    return {change.file.path: change for change in changes if change.file and isinstance(change.file.content, Text)}
