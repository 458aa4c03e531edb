"""smoke: proves a running cluster, check by check."""

from __future__ import annotations

import difflib
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.desired import Check
    from hardway.inventory import Host
    from hardway.observed import Observed
    from hardway.remote.cluster import Cluster
    from hardway.smoke import ClusterStage, Report

Tell = Callable[[str], None]

HELP = {
    "component": "only the checks of this component",
    "check": "only this check",
    "list": "show the checks and what each proves, and run none",
    "json": "write the report as JSON to this file, - for standard output",
    "junit": "write the report as JUnit XML to this file",
    "cleanup": "only remove what a killed run has left in the cluster",
}


@task(auto_shortflags=False, help=HELP)
def smoke(  # noqa: PLR0913, PLR0917 - one parameter an option
    c: Context, component: str = "", check: str = "", list_: bool = False, json: str = "", junit: str = "", cleanup: bool = False
) -> None:
    """Prove a running cluster: what each component must do, check by check, with the evidence."""
    session = Session.open(c)
    chosen = choose(component, check)
    if list_:
        session.console.table(("check", "needs", "proves"), [(one.name, ", ".join(sorted(one.needs)), one.proves) for one in chosen])
    elif cleanup:
        reap(session)
    else:
        report(session, chosen, json=json, junit=junit)


def report(session: Session, checks: Iterable[Check] = (), *, json: str = "", junit: str = "") -> None:
    """Run checks, all of them if none are named, and show how each ended; the verb fails if one of them did."""
    from hardway.smoke import CHECKS
    from hardway.smoke import smoke as run
    from hardway.state import State
    from hardway.verbs.program.running import running

    console = session.console
    with console.step("smoke") as tell, running(session, State(session.state), tell, issuing=False) as cluster:
        found = run(tuple(checks) or CHECKS, _stage(session, cluster, tell), have={"api", "hosts"}, tell=tell)
    if junit:
        _write(Path(junit), found.junit)
    if json:
        console.json(found.document, json)
    if json != "-":
        console.table(
            ("check", "status", "s", "proves"), [(one.name, one.status, f"{one.seconds:.1f}", one.proves) for one in found.checks]
        )
        _explain(session, found)
    counts = ", ".join(f"{found.counts[status]} {status}" for status in ("passed", "failed", "skipped") if found.counts[status])
    console.tell(f"* smoke: {counts}")
    if not found.green:
        raise Exit(code=1)


def _explain(session: Session, found: Report) -> None:
    """What did not pass: the reason, and the journal's last lines where they were not shown yet."""
    shown: set[str] = set()
    for one in found.checks:
        if one.status != "passed":
            session.console.result(f"\n{one.name} {one.status}: {one.reason}", style="red" if one.status == "failed" else "")
            if one.evidence and one.evidence not in shown:
                session.console.result(one.evidence)
            shown.add(one.evidence)


def reap(session: Session) -> None:
    """Remove what killed runs have left."""
    from hardway.state import State
    from hardway.verbs.program.running import running

    tell = session.console.tell
    with running(session, State(session.state), tell, issuing=False) as cluster:
        stage = _stage(session, cluster, tell)
        names = stage.cleanup()
    for name in names:
        session.console.result(f"removed {name}")
    for one in stage.left:
        session.console.tell(one)
    if not names:
        session.console.result("nothing was left")
    if stage.left:
        raise Exit(code=1)


def choose(component: str, check: str) -> tuple[Check, ...]:
    """The checks that were named; a Mistake with the near name if there is none of that name."""
    from hardway.smoke import CHECKS

    for option, name, known in (
        ("--component", component, {one.component for one in CHECKS}),
        ("--check", check, {one.name for one in CHECKS}),
    ):
        if name and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise Mistake.at(option, f"there is no {name}", f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}")
    chosen = tuple(one for one in CHECKS if component in {"", one.component} and check in {"", one.name})
    if not chosen:
        raise Mistake.at("--check", f"{check} is no check of {component}", "leave one of the two options away")
    return chosen


def _stage(session: Session, cluster: Cluster, tell: Tell) -> ClusterStage:
    from hardway.binaries.fetch import CACHE, fetch
    from hardway.components import ALL
    from hardway.remote.protocol import ARCHITECTURES
    from hardway.smoke import ClusterStage, Kubectl
    from hardway.verbs.program.running import KUBECONFIG

    def observe(host: Host) -> Observed:
        return cluster.machine(host).observe(frozenset(), [component.unit for component in ALL if component.on in host.roles])

    kubeconfig = session.state / KUBECONFIG
    kubectl = None
    if kubeconfig.exists() and (arch := ARCHITECTURES.get(platform.machine())):
        program = fetch(["kubectl"], arch, session.inventory, CACHE, tell, pins=session.state / "pins.json")["kubectl"]
        kubectl = Kubectl(program=program.path, kubeconfig=kubeconfig)
    return ClusterStage(cluster, observe=observe, kubectl=kubectl, tell=tell)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be written: {error.strerror}") from None
