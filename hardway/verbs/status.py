"""status: how a cluster stands, in about a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.verbs.program.session import HOSTS, Session

if TYPE_CHECKING:
    from hardway.inventory import Host
    from hardway.status import Daemon, Standing, Status


@task(auto_shortflags=False, help={"json": "write all of it as JSON to this file, - for standard output", "hosts": HOSTS})
def status(c: Context, json: str = "", hosts: str = "") -> None:
    """Show how the cluster stands: daemons, leaders, drift; exits 1 if something is down."""
    session = Session.open(c)
    some = session.hosts(hosts)
    with session.console.step("status") as tell:
        found = look(session, some)
        session.left_alone(some, tell)
    if json:
        session.console.json(found.document, json)
    if json != "-":
        _show(session, found)
    raise Exit(code=1 if found.down else 0)


def look(session: Session, hosts: tuple[Host, ...]) -> Status:
    """Ask hosts; a certificate that a push would issue is issued into a copy that is gone afterwards, as `plan` does."""
    from datetime import UTC, datetime

    from hardway.pki import declared
    from hardway.pki.register import register
    from hardway.state import State
    from hardway.status import status as ask
    from hardway.verbs.program.running import programs, running

    def quiet(_: str) -> None:
        """What a plan would tell of is not narrated here."""

    now = datetime.now(UTC)
    items = register(declared.load(session.certs), session.inventory, State(session.state), now)
    with State(session.state).draft() as draft, running(session, draft.state, quiet) as cluster:
        return ask(cluster, programs(session, session.console.tell, bring=False), items, now, hosts)


def _show(session: Session, found: Status) -> None:
    console = session.console
    console.table(
        ("host", "component", "state", "since", "version", "well"),
        [row for one in found.standings for row in _rows(one)],
    )
    console.result("")
    for component, host in found.leaders.items():
        console.result(f"{component}: {f'{host} leads' if host else 'nobody leads'}")
    console.result(_drift(found))
    for host, unit in found.owed:
        console.result(f"{host}: a push still owes {unit} a restart; ./inv push makes up for it")
    if found.expires and found.expires.not_after:
        on = f" of {found.expires.host}" if found.expires.host else ""
        console.result(f"first to expire: {found.expires.name}{on}, {found.expires.not_after:%Y-%m-%d}, in {found.days} days")
    for one in found.standings:
        for finding in one.findings:
            console.warn(finding)
    for where, what in found.down:
        console.result(f"{where}: {what}", style="red")
    console.tell(f"* {'something is down' if found.down else 'all is well'}")


def _rows(one: Standing) -> list[tuple[str, ...]]:
    if one.why:
        return [(one.host.name, "", "no answer", "", "", "no")]
    return [
        (
            one.host.name,
            daemon.component,
            daemon.state.active if daemon.state else "not installed",
            daemon.since,
            _version(daemon),
            "no" if daemon.why else "yes",
        )
        for daemon in one.daemons
    ]


def _version(daemon: Daemon) -> str:
    """What runs; with what is declared where that is another."""
    if daemon.declared is None or daemon.runs == daemon.declared:
        return daemon.runs or "the system's"
    return f"{daemon.runs or 'unknown'} ({daemon.declared} is declared)"


def _drift(found: Status) -> str:
    parts = [(f"on {one.host.name}", one.changes) for one in found.standings] + [("in the cluster", found.objects)]
    shown = [
        f"{'unknown' if changes is None else changes} change{'' if changes == 1 else 's'} {where}"
        for where, changes in parts
        if changes != 0
    ]
    return f"a push would make {', '.join(shown)}; ./inv plan shows them" if shown else "a push would change nothing"
