"""plan, push, render: what the machines should carry, what differs, and making it so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.cli import USAGE
from hardway.verbs.program.session import HOSTS, Session

if TYPE_CHECKING:
    from hardway.inventory import Host
    from hardway.plan import Change
    from hardway.push import Survey

PENDING = 2  # exit code of `plan`


@task(
    auto_shortflags=False,
    help={
        "json": "write the plan as JSON to this file, - for standard output",
        "verify": "hash every file on the hosts again, trusting no memory",
        "hosts": HOSTS,
    },
)
def plan(c: Context, json: str = "", verify: bool = False, hosts: str = "") -> None:
    """Show what differs and why; changes nothing, exits 2 if something does.

    A host for which there is no plan, since it does not answer or may not be changed, hides nothing of the others; then it exits 1.
    """
    from hardway.plan import document
    from hardway.push import survey
    from hardway.state import State
    from hardway.verbs.program.running import programs, running

    session = Session.open(c)
    some = session.hosts(hosts)
    with session.console.step("compare") as tell, State(session.state).draft() as draft, running(session, draft.state, tell) as cluster:
        found = survey(cluster, programs(session, tell), verify=verify, some=some, partly=True, warn=session.console.warn)
        if json:
            session.console.json(document(found.plans, found.objects), json)
        else:
            _show(session, found)
        session.left_alone(some, tell)
    if found.wrong:
        raise Mistake(*found.wrong)
    raise Exit(code=PENDING if found.changes else 0)


@task(
    auto_shortflags=False,
    help={
        "verify": "hash every file on the hosts again, trusting no memory",
        "hosts": HOSTS,
        "parallel": "how many workers are changed at a time; a control plane goes one by one whatever is said here",
    },
)
def push(c: Context, verify: bool = False, hosts: str = "", parallel: int = 0) -> None:
    """Make every machine match the inventory; a second run changes nothing."""
    if parallel < 0:
        raise Exit("push: --parallel takes a number of hosts, from 1 on", code=USAGE)
    session = Session.open(c)
    some = session.hosts(hosts)
    with session.console.step("push") as tell:
        changes = make_so(session, tell, verify=verify, some=some, parallel=parallel)
        session.left_alone(some, tell)
    session.console.result(f"{changes} changes" if changes else "nothing to change")


@task(
    auto_shortflags=False,
    help={
        "hosts": HOSTS,
        "out": "write the tree below this directory instead",
        "readers": "show instead, in Markdown, who may read which file and who does",
    },
)
def render(c: Context, hosts: str = "", out: str = "", readers: bool = False) -> None:
    """Show every file that a host would get, and what the cluster would; placeholders for keys."""
    from hardway import render as rendering
    from hardway.pki import declared

    session = Session.open(c)
    if readers:
        session.console.result(rendering.READERS + rendering.readers(declared.load(session.certs), session.inventory).rstrip())
        return
    some = session.hosts(hosts)
    declarations = declared.load(session.certs)
    for one in some:
        for path, text in rendering.tree(declarations, session.inventory, one).items():
            if out:
                file = Path(out) / one.name / str(path).lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            else:
                session.console.result(f"# {one.name}:{path}", style="bold")
                session.console.result(text)
    if not hosts and out:
        (Path(out) / "cluster.yaml").write_text(rendering.in_cluster(session.inventory))  # no host's name has a dot
    elif not hosts:
        session.console.result("# the cluster", style="bold")
        session.console.result(rendering.in_cluster(session.inventory))


def make_so(session: Session, tell: Callable[[str], None], *, verify: bool = False, some: tuple[Host, ...] = (), parallel: int = 0) -> int:
    """Survey and push; the number of changes that were made."""
    from hardway import pod_ranges
    from hardway.push import push as apply
    from hardway.push import settled, survey
    from hardway.state import State
    from hardway.verbs.program.running import programs, running, write_kubeconfig

    state = State(session.state)
    # A cluster that refuses the push leaves state/ as it is: what was issued is kept only once that is known.
    with state.draft() as draft, running(session, draft.state, tell) as cluster:
        brought = programs(session, tell)
        look = partial(survey, cluster, brought, verify=verify, some=some, warn=session.console.warn)
        found = settled(cluster, look, tell)
        draft.keep()
        pod_ranges.settle(state, session.inventory)
        apply(cluster, found, tell, parallel=parallel)
        write_kubeconfig(session.inventory, cluster, state)
    return found.changes


def _show(session: Session, found: Survey) -> None:
    """A row for what is done on several hosts, then the diffs of texts, each once; a secret shows by its path alone."""
    from hardway.plan import diff
    from hardway.verbs.program.hosts import called

    rows: dict[tuple[str, ...], list[str]] = {}
    texts: dict[str, list[str]] = {}
    for one in found.plans:
        old = found.texts.get(one.host.name, {})
        for change in one.changes:
            rows.setdefault(_row(change), []).append(one.host.name)
            if change.file and change.file.path in old and (text := diff(change, old[change.file.path])):
                texts.setdefault(text, []).append(one.host.name)
    table = [(called(session.inventory, names), *row) for row, names in rows.items()]
    table += [("cluster", *_row(change)) for change in found.objects]
    if not table:
        session.console.result(f"{len(found.plans)} hosts: nothing to change" if found.wrong else "nothing to change")
        return
    session.console.table(("hosts", "component", "action", "what", "why"), table)
    for text, names in texts.items():
        session.console.result(f"\n{called(session.inventory, names)}:\n{text}")
    same = sum(not plan.changes for plan in found.plans)
    session.console.result(f"\n{f'{same} hosts: nothing to change; ' if same else ''}{found.changes} changes; `./inv push` makes them")


def _row(change: Change) -> tuple[str, str, str, str]:
    return change.component, change.action, change.what, change.why
