"""reset, worker.remove: what leaves, the kit a host or a worker its cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.verbs.program.duration import duration
from hardway.verbs.program.session import HOSTS, Session

if TYPE_CHECKING:
    from hardway.inventory import Host
    from hardway.plan import Plan

PENDING = 2  # exit code where --yes is missing


@task(
    auto_shortflags=False,
    help={"hosts": f"{HOSTS}; a member of etcd does not go alone", "yes": "do it: what is in the cluster is gone for good"},
)
def reset(c: Context, hosts: str = "", yes: bool = False) -> None:
    """Take all that the kit and its daemons made off the hosts; without --yes only show it.

    Containers, mounts, rules, routes, users and data go with the files; what is not of the kit stays. state/ stays too, so that
    a push makes a cluster with the same authorities. Interrupted, it is run again and goes on. Exits 2 if --yes is missing.
    """
    from hardway.leaving.reset import reset as take
    from hardway.leaving.reset import survey
    from hardway.state import State
    from hardway.verbs.program.hosts import called
    from hardway.verbs.program.running import running

    session = Session.open(c)
    some = session.hosts(hosts)
    # What is not in state/ any more is not missed: it is made for this run alone, and a host that trusts others is refused.
    with State(session.state).draft() as draft, running(session, draft.state, lambda _: None) as cluster:
        with session.console.step("look"):
            found = survey(cluster, some)
        for finding in found.silent:
            session.console.warn(finding)
        _show(session, found.plans)
        if found.changes and not yes:
            session.console.result(f"\n{found.changes} things would go for good; add --yes if that is meant")
            raise Exit(code=PENDING)
        if found.changes:
            with session.console.step("reset") as tell:
                take(cluster, found, tell)
    if found.changes:
        session.console.result(f"nothing of the kit is left on {called(session.inventory, [plan.host.name for plan in found.plans])}")
        session.console.result("settings of the kernel and its modules stay until a reboot")
        session.console.result(_afterwards(session, some))
    elif not found.silent:
        session.console.result("nothing of the kit is there")
    if found.silent:
        raise Exit(f"{len(found.silent)} hosts did not answer and have what they had", 1)


@task(
    auto_shortflags=False,
    positional=["name"],
    help={
        "name": "a worker",
        "within": "how long its Pods may take to move; such as 5m",
        "force": "also Pods that nothing makes again, and those with data in an emptyDir: both are lost",
        "keep-host": "leave its host as it is, since it cannot be reached",
    },
)
def remove(c: Context, name: str, within: str = "5m", force: bool = False, keep_host: bool = False) -> None:
    """Take a worker out of the cluster: cordon, drain, reset its host, delete its Node.

    Pods are evicted, so PodDisruptionBudgets hold: what they do not allow is tried again, and told if the time runs out.
    Interrupted, it is run again and goes on.
    """
    from hardway.leaving.worker import Leaving
    from hardway.leaving.worker import remove as leave
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    leaving = Leaving(name=name, within=duration("--within", within).total_seconds(), force=force, keep_host=keep_host)
    state = State(session.state)
    with (
        session.console.step(f"remove {name}") as tell,
        state.draft() as draft,
        running(session, draft.state, lambda _: None) as cluster,
    ):
        until = leave(cluster, state, leaving, tell)
    session.console.result(f"{name} has left the cluster")
    if keep_host:
        good = f", good until {until:%Y-%m-%d}" if until else ""
        what = f"its host still has its daemons, its data and its key{good}, by which it would join again"
        session.console.result(f"{what}: switch it off or make it anew")
    if any(host.name == name for host in session.inventory.hosts):
        path = c.config.hardway.inventory
        session.console.result(f"now take {name} out of {path} and run `./inv push`: then the others drop its route, else it comes back")


def _afterwards(session: Session, hosts: tuple[Host, ...]) -> str:
    """What is left elsewhere, and what can be done with it."""
    if len(hosts) == len(session.inventory.hosts):
        return f"{session.state} keeps the authorities: a push makes the cluster again; remove it if that is not wanted"
    if len(hosts) == 1 and hosts[0] in session.inventory.on("worker"):
        name = hosts[0].name
        return f"its Node is as if the machine were lost: `./inv push` puts it up again, `./inv worker.remove {name}` takes it out"
    return "`./inv push` puts up again what was there; a worker that is not to come back leaves by `./inv worker.remove`"


def _show(session: Session, plans: tuple[Plan, ...]) -> None:
    """A row for each thing that goes, once for all the hosts that have it."""
    from hardway.verbs.program.hosts import called

    rows: dict[tuple[str, str, str], list[str]] = {}
    for plan in plans:
        for change in plan.changes:
            rows.setdefault((change.component, change.action, change.what), []).append(plan.host.name)
    if rows:
        session.console.table(
            ("component", "action", "what", "hosts"), [(*row, called(session.inventory, names)) for row, names in rows.items()]
        )
