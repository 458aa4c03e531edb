"""restart: a component's daemons, one host after the other, with nobody noticing."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.verbs import traffic as load
from hardway.verbs.program.cli import USAGE
from hardway.verbs.program.session import HOSTS, Session

if TYPE_CHECKING:
    from hardway.traffic import Report

AFTER = 5.0  # seconds of load behind the last restart


@task(
    auto_shortflags=False,
    help={
        "component": "such as kube-apiserver",
        "hosts": HOSTS,
        "with-traffic": "keep load on the cluster all the while, and end with what its clients saw",
        "json": "with --with-traffic: write its report as JSON to this file, - for standard output",
    },
)
def restart(c: Context, component: str, hosts: str = "", with_traffic: bool = False, json: str = "") -> None:
    """Restart a component's daemons, one host after the other, with nobody noticing.

    etcd's leader hands over first and goes last; the balancer is reloaded. Exits 1 if one does not come up, or a client saw a failure.
    """
    from hardway.restart import named
    from hardway.restart import restart as roll
    from hardway.state import State
    from hardway.verbs.program.running import running

    if json and not with_traffic:
        raise Exit("restart: --json goes with --with-traffic", code=USAGE)
    session = Session.open(c)
    one = named(component)
    some = tuple(there for there in session.hosts(hosts) if there in one.hosts(session.inventory))
    report: Report | None = None
    with session.console.step(f"restart {component}") as tell, ExitStack() as stack:
        cluster = stack.enter_context(running(session, State(session.state), tell, issuing=False))
        beside = stack.enter_context(load.beside(load.ours(session, tell), tell, tell.now)) if with_traffic else None
        took = roll(cluster, one, some, tell)
        if beside:
            tell.now("some more load, for what shows late")
            time.sleep(AFTER)
            report = beside.finish()
    for there, seconds in took.items():
        session.console.tell(f"{there.name}: {component}: {seconds:.1f} s")
    if report:
        load.shown(session.console, report, json)
