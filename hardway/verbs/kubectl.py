"""kubectl: the cluster's own, of its own version, as the administrator."""

from __future__ import annotations

import os
import platform

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session, passthrough


@task(auto_shortflags=False)
def kubectl(c: Context) -> None:
    """Run kubectl as the administrator; what follows -- goes to it."""
    from hardway.binaries.fetch import CACHE, fetch
    from hardway.remote.protocol import ARCHITECTURES
    from hardway.state import State
    from hardway.verbs.program.running import KUBECONFIG

    session = Session.open(c)
    kubeconfig = State(session.state).path(KUBECONFIG)
    if not kubeconfig.exists():
        raise Mistake.at(str(kubeconfig), "is not there", "run ./inv up or ./inv push first")
    arch = ARCHITECTURES[platform.machine()]
    program = fetch(["kubectl"], arch, session.inventory, CACHE, session.console.tell, pins=session.state / "pins.json")["kubectl"]
    # In our place: its exit code, its signals and its terminal are the operator's own.
    os.execve(program.path, ["kubectl", *passthrough(c)], {**os.environ, "KUBECONFIG": str(kubeconfig)})  # noqa: S606 - no shell is wanted
