"""Takes the kit and all that its daemons have made off hosts: what that is first, then doing it, by one command each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hardway.components import etcd
from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.leaving import remains
from hardway.pki.strangers import unknown
from hardway.plan import Plan
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import Failure, attempt

Tell = Callable[[str], None]

AT_ONCE = 16  # hosts
AGAIN = "see to it, and run the same again: it goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """What would go."""

    plans: tuple[Plan, ...]  # of the hosts that have something
    silent: tuple[Finding, ...]  # why others were not looked at

    @property
    def changes(self) -> int:
        return sum(len(plan.changes) for plan in self.plans)


def survey(cluster: Cluster, hosts: Sequence[Host]) -> Reset:
    """Look at hosts; a Mistake if one of them is not ours to reset, or may not go alone."""
    answers = attempt(hosts, lambda host: _looked(cluster, host), AT_ONCE)
    silent = [finding for answer in answers.values() if isinstance(answer, Failure) for finding in answer.error.findings]
    found = {host: answer for host, answer in answers.items() if not isinstance(answer, Failure)}
    if wrong := [finding for one in found.values() if (finding := one.refused)]:
        raise Mistake(*wrong)
    plans = {host: one.plan for host, one in found.items() if one.plan.changes}
    _keep_quorum(cluster, plans, hosts)
    return Reset(plans=tuple(plans.values()), silent=tuple(silent))


def reset(cluster: Cluster, found: Reset, tell: Tell) -> None:
    """Do it: workers first, so that nobody is left to ask for what has gone; a host that fails holds no other up."""
    plans = {plan.host: plan for plan in found.plans}
    workers = [host for host in plans if "worker" in host.roles]
    failed: list[Finding] = []
    with cluster.lock(tuple(plans), "reset") as held:

        def do(host: Host) -> None:
            held[host.name].check()
            _take(cluster, plans[host])
            tell(f"{host.name}: nothing of the kit is left")

        for hosts in (workers, [host for host in plans if host not in workers]):
            for answer in attempt(hosts, do, AT_ONCE).values():
                failed += answer.error.findings if isinstance(answer, Failure) else ()
    if failed:
        raise Mistake(*failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    plan: Plan
    refused: Finding | None


def _looked(cluster: Cluster, host: Host) -> _Looked:
    machine = cluster.machine(host)
    found = remains.parse(machine.run(*remains.look()))
    refused = None
    if found.bundles and (what := unknown(machine.read(found.bundles), cluster.credentials.trusts.values(), datetime.now(UTC))):  # (8)
        step = "reset it with the inventory and the state/ of that cluster"
        refused = Finding(where=host.name, what=f"{what}: it is another cluster's", next_step=step)
    return _Looked(plan=remains.plan(host, found), refused=refused)


def _keep_quorum(cluster: Cluster, plans: Mapping[Host, Plan], hosts: Sequence[Host]) -> None:
    """A member that comes back with its name and without its data harms the others, whose number still counts it."""
    others = [host.name for host in cluster.inventory.on("controller") if host not in hosts]
    members = [host for host, plan in plans.items() if any(change.component == etcd.COMPONENT.name for change in plan.changes)]
    if members and others:
        what = f"it is a member of etcd, as {', '.join(others)} may be"
        raise Mistake.at(members[0].name, what, "reset all hosts at once, or leave it")


def _take(cluster: Cluster, plan: Plan) -> None:
    left = remains.left(cluster.machine(plan.host).run(*remains.take(plan.changes)))
    if left:
        raise Mistake(*(Finding(where=plan.host.name, what=one, next_step=AGAIN) for one in left))
