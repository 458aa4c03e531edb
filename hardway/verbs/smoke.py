"""smoke: proves a running cluster, check by check."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.cli import USAGE
from hardway.verbs.program.elsewhere import Asked, kubectl_program, stranger
from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.desired import Check, PodSettings, Secret
    from hardway.inventory import Host
    from hardway.observed import Observed
    from hardway.remote.cluster import Cluster
    from hardway.smoke import ClusterStage, Report

    Opens = Callable[["Tell"], AbstractContextManager[ClusterStage]]

Tell = Callable[[str], None]

STRANGE = ("--context", "--namespace", "--image-pull-secret", "--read-only", "--print-rbac")
FEW = 3  # nodes of a cluster that is not ours

SHORT = 15  # minutes that a certificate for one run is good for

HELP = {
    "component": "only the checks of this component",
    "check": "only this check",
    "list": "show the checks and what each proves, and run none",
    "json": "write the report as JSON to this file, - for standard output",
    "junit": "write the report as JUnit XML to this file",
    "disruptive": "also the checks that stop and kill services, and start them again",
    "parallel": "so many checks at a time, at most 6, which is what is done unless it is said: fewer for hosts that are slow",
    "cleanup": "only remove what killed runs have left in the cluster",
    "all": "with --cleanup: also what is so young that its run may be going on",
    "image": "the Pods run this: agnhost, under the name that it has where the cluster's images come from",
    "toleration": "a taint that the Pods put up with: KEY[=VALUE][:EFFECT]; may be given again",
    "nodes": "the Pods use so many nodes at most; on a cluster that is not ours 3 unless it is said",
    "kubeconfig": "prove the cluster of this kubeconfig, which need not be ours: only by its API, in one namespace",
    "context": "with --kubeconfig: this context",
    "namespace": "with --kubeconfig: this namespace, which has to be there",
    "read-only": "with --kubeconfig: only checks that write nothing",
    "image-pull-secret": "with --kubeconfig: the Secret of this name, which is in the namespace, lets the image be pulled",
    "print-rbac": "with --kubeconfig: write the smallest Roles that the checks need, and run none",
    "yes": "with --kubeconfig: write what is announced",
}


@task(auto_shortflags=False, help=HELP, iterable=["toleration"])
def smoke(  # noqa: PLR0913, PLR0917 - one parameter an option
    c: Context,
    component: str = "",
    check: str = "",
    list_: bool = False,
    json: str = "",
    junit: str = "",
    disruptive: bool = False,
    parallel: int = 0,
    cleanup: bool = False,
    all_: bool = False,
    image: str = "",
    toleration: Iterable[str] | None = None,  # a list, as Invoke makes one of nothing else
    nodes: int = 0,
    kubeconfig: str = "",
    context: str = "",
    namespace: str = "",
    image_pull_secret: str = "",
    read_only: bool = False,
    print_rbac: bool = False,
    yes: bool = False,
) -> None:
    """Prove a running cluster: what each component must do, check by check, with the evidence."""
    strange = bool(context or namespace or image_pull_secret or read_only or print_rbac or yes)
    if why := _misused(
        kubeconfig=bool(kubeconfig), strange=strange, disruptive=disruptive, parallel=parallel, all_without=all_ and not cleanup
    ):
        raise Exit(f"smoke: {why}", code=USAGE)
    pods = settings(image, image_pull_secret, toleration or (), nodes or (FEW if kubeconfig else 0))
    session = Session.open(c)
    chosen = choose(component, check)
    if list_:
        session.console.table(("check", "needs", "proves"), [(one.name, ", ".join(sorted(one.needs)), one.proves) for one in chosen])
        return
    if not disruptive and not check:
        chosen = harmless(chosen)
    if kubeconfig:
        asked = Asked(Path(kubeconfig), context, namespace, read_only=read_only, yes=yes)
        with stranger(session, asked) as there:
            if print_rbac:
                session.console.result(there.rbac(chosen).rstrip())
            elif cleanup:
                swept(session, there.stage(session.console.tell, pods), every=all_)
            else:
                checks = there.agreed(chosen)
                shown(session, prove(session, lambda tell: nullcontext(there.stage(tell, pods)), checks, {"api"}, parallel), json, junit)
    elif cleanup:
        reap(session, every=all_)
    else:
        report(session, chosen, json=json, junit=junit, disruptive=disruptive, pods=pods, parallel=parallel)


def _misused(*, kubeconfig: bool, strange: bool, disruptive: bool, parallel: int, all_without: bool) -> str | None:
    """Why options do not go together."""
    from hardway.smoke.runner import AT_ONCE

    if strange and not kubeconfig:
        return f"{', '.join(STRANGE)} and --yes go with --kubeconfig"
    if all_without:
        return "--all goes with --cleanup"
    if kubeconfig and disruptive:
        return "nothing is stopped on a cluster that is known by its kubeconfig alone"
    if not 0 <= parallel <= AT_ONCE:
        return f"--parallel takes a number of checks, from 1 to {AT_ONCE}"
    return None


def settings(image: str, pull_secret: str, tolerations: Iterable[str], nodes: int) -> PodSettings:
    """How Pods have to be, as the options say it."""
    from hardway.desired import PodSettings, Toleration

    if nodes < 0:
        raise Exit("smoke: --nodes takes a number of nodes", code=USAGE)
    words = [word for option in tolerations for word in option.split(",")]
    return PodSettings(image=image, pull_secret=pull_secret, tolerations=tuple(Toleration.read(word) for word in words), nodes=nodes)


def harmless(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Those that stop nothing."""
    return tuple(one for one in checks if "disruptive" not in one.needs)


def report(  # noqa: PLR0913 - one parameter an option
    session: Session,
    checks: Iterable[Check] = (),
    *,
    json: str = "",
    junit: str = "",
    disruptive: bool = False,
    pods: PodSettings | None = None,
    parallel: int = 0,
) -> None:
    """Run checks, all that stop nothing if none are named, and show how each ended; the verb fails if one of them did."""
    from hardway.smoke import CHECKS

    chosen = tuple(checks) or harmless(CHECKS)
    have = {"api", "hosts", "namespace"} | ({"disruptive"} if disruptive else set())

    @contextmanager
    def stage(tell: Tell) -> Iterator[ClusterStage]:
        from hardway.state import State
        from hardway.verbs.program.running import running

        with ExitStack() as stack:
            cluster = stack.enter_context(running(session, State(session.state), tell, issuing=False))
            if disruptive:
                stack.enter_context(cluster.lock(session.inventory.hosts, "smoke --disruptive"))
            yield _stage(session, cluster, tell, pods)

    shown(session, prove(session, stage, chosen, have, parallel), json, junit)


def prove(session: Session, stage: Opens, checks: tuple[Check, ...], have: Collection[str], parallel: int) -> Report:
    """Run checks on a stage."""
    from hardway.smoke import smoke as run
    from hardway.smoke.runner import AT_ONCE

    with session.console.step("smoke") as tell, stage(tell) as on:
        return run(checks, on, have=have, tell=tell, now=tell.now, at_once=parallel or AT_ONCE)


def shown(session: Session, found: Report, json: str, junit: str) -> None:
    """Show how each check ended; the verb fails if one of them did."""
    console = session.console
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
    """What did not pass: the reason, once for all that were skipped for it, and the journal's last lines where they were not shown yet."""
    reasons: dict[str, list[str]] = {}
    for one in found.checks:
        if one.status == "skipped":
            reasons.setdefault(one.reason, []).append(one.name)
    if reasons:
        session.console.result("")
    for reason, names in reasons.items():
        session.console.result(f"skipped {', '.join(names)}: {reason}")
    shown: set[str] = set()
    for one in found.checks:
        if one.status == "failed":
            session.console.result(f"\n{one.name} failed: {one.reason}", style="red")
            if one.evidence and one.evidence not in shown:
                session.console.result(one.evidence)
            shown.add(one.evidence)


def reap(session: Session, *, every: bool) -> None:
    """Remove what killed runs have left in a cluster of ours."""
    from hardway.state import State
    from hardway.verbs.program.running import running

    with running(session, State(session.state), session.console.tell, issuing=False) as cluster:
        swept(session, _stage(session, cluster, session.console.tell), every=every)


def swept(session: Session, stage: ClusterStage, *, every: bool) -> None:
    """Remove what killed runs have left, and say what was spared."""
    removed, spared = stage.cleanup(every=every)
    for one in removed:
        session.console.result(f"removed {one}")
    for one in spared:
        session.console.result(f"kept {one}: it is {one.age:.0f} s old, so its run may be going on; --all removes it too")
    for left in stage.left:
        session.console.tell(left)
    if not removed and not spared:
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
            raise Mistake.at(option, f"there is no {name}", f"did you mean {near[0]}?" if near else "`./inv smoke --list` shows them")
    chosen = tuple(one for one in CHECKS if component in {"", one.component} and check in {"", one.name})
    if not chosen:
        raise Mistake.at("--check", f"{check} is no check of {component}", "leave one of the two options away")
    return chosen


def _stage(session: Session, cluster: Cluster, tell: Tell, pods: PodSettings | None = None) -> ClusterStage:
    from hardway.components import installed
    from hardway.pki.issue import short_lived
    from hardway.smoke import ClusterStage, Kubectl
    from hardway.state import State
    from hardway.verbs.program.running import KUBECONFIG

    def observe(host: Host) -> Observed:
        return cluster.machine(host).observe(frozenset(), [component.unit for component in installed(session.inventory, host)])

    def issue(authority: str, common_name: str, organization: str | None, expired: bool) -> Secret:
        now = datetime.now(UTC) - (timedelta(hours=1) if expired else timedelta())
        return short_lived(State(session.state), authority, common_name, organization, SHORT, now, session.passphrase)

    kubeconfig = session.state / KUBECONFIG
    kubectl = None
    if kubeconfig.exists() and (program := kubectl_program(session, tell)):
        kubectl = Kubectl(program=program, kubeconfig=kubeconfig, cache=session.state / "kubectl-cache")
    return ClusterStage(cluster, observe=observe, issue=issue, kubectl=kubectl, tell=tell, settings=pods)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be written: {error.strerror}") from None
