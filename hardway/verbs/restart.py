"""restart: a component's daemons, one host after the other, with nobody noticing."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from hardway.verbs import traffic as load
from hardway.verbs.program.session import HOSTS, Session


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

    session = Session.open(c)
    one = named(component)
    some = tuple(there for there in session.hosts(hosts) if there in one.hosts(session.inventory))
    with (
        session.console.step(f"restart {component}") as tell,
        running(session, State(session.state), tell, issuing=False) as cluster,
        load.under(session, tell, json, wanted=with_traffic),
    ):
        for there, seconds in roll(cluster, one, some, tell).items():
            tell(f"{there.name}: {component}: {seconds:.1f} s")
