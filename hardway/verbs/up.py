"""up: from nothing to a control plane that is proved."""

from __future__ import annotations

import time

from invoke.context import Context
from invoke.tasks import task

from hardway.verbs.program.session import Session
from hardway.verbs.push import make_so


@task(auto_shortflags=False)
def up(c: Context) -> None:
    """Make the cluster: lab hosts if it has any, binaries, certificates, push, smoke report."""
    from hardway.lab import hosts
    from hardway.verbs.smoke import report

    session = Session.open(c)
    console = session.console
    began = time.monotonic()
    if session.inventory.lab:
        with console.step("lab") as tell:
            hosts.up(session.inventory, session.state, tell)
    with console.step("push") as tell:
        make_so(session, tell)
    report(session)
    console.tell(f"* up: {time.monotonic() - began:.1f} s; try ./inv kubectl -- get --raw /readyz")
