"""preflight: what would break an installation, on all hosts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.verbs.program.session import HOSTS, Session

if TYPE_CHECKING:
    from hardway.errors import Finding


@task(auto_shortflags=False, help={"json": "write the findings as JSON to this file, - for standard output", "hosts": HOSTS})
def preflight(c: Context, json: str = "", hosts: str = "") -> None:
    """Show what would break an installation, and its remedy; exits 1 if a push would refuse."""
    from hardway.preflight import merged
    from hardway.push.survey import look
    from hardway.state import State
    from hardway.verbs.program.hosts import shortened
    from hardway.verbs.program.running import running

    session = Session.open(c)
    some = session.hosts(hosts)
    with session.console.step("preflight"), State(session.state).draft() as draft, running(session, draft.state, lambda _: None) as cluster:
        _, all_found = look(cluster, some)
    session.left_alone(some, session.console.tell)
    found = sorted(merged(all_found), key=lambda finding: finding.warning)
    if json:
        session.console.json(document(found), json)
    if json != "-":
        rows = [(shortened(one.where.split(", ")), "warning" if one.warning else "error", one.what, one.next_step) for one in found]
        if rows:
            session.console.table(("host", "grade", "what", "what to do"), rows)
        else:
            session.console.result("nothing stands against an installation")
    raise Exit(code=0 if all(finding.warning for finding in found) else 1)


def document(found: list[Finding]) -> dict[str, object]:
    """What `preflight --json` prints."""
    rows = [
        {"hosts": one.where.split(", "), "grade": "warning" if one.warning else "error", "what": one.what, "next_step": one.next_step}
        for one in found
    ]
    return {"schema": 1, "findings": rows, "errors": sum(not one.warning for one in found)}
