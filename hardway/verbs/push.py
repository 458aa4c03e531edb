"""plan, push, render: what the machines should carry, what differs, and making it so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.plan import Change
    from hardway.push import Survey

PENDING = 2  # exit code of `plan`


@task(
    auto_shortflags=False,
    help={
        "json": "write the plan as JSON to this file, - for standard output",
        "verify": "hash every file on the hosts again, trusting no memory",
    },
)
def plan(c: Context, json: str = "", verify: bool = False) -> None:
    """Show what differs and why; changes nothing, exits 2 if something does."""
    from hardway.plan import document
    from hardway.push import survey
    from hardway.state import State
    from hardway.verbs.program.running import programs, running

    session = Session.open(c)
    with session.console.step("compare") as tell, State(session.state).draft() as draft, running(session, draft.state, tell) as cluster:
        found = survey(cluster, programs(session, tell), verify=verify, warn=session.console.warn)
        if json:
            session.console.json(document(found.plans, found.objects), json)
        else:
            _show(session, found)
    raise Exit(code=PENDING if found.changes else 0)


@task(auto_shortflags=False, help={"verify": "hash every file on the hosts again, trusting no memory"})
def push(c: Context, verify: bool = False) -> None:
    """Make every machine match the inventory; a second run changes nothing."""
    session = Session.open(c)
    with session.console.step("push") as tell:
        changes = make_so(session, tell, verify=verify)
    session.console.result(f"{changes} changes" if changes else "nothing to change")


@task(
    auto_shortflags=False,
    help={
        "host": "only this one",
        "out": "write the tree below this directory instead",
        "readers": "show instead, in Markdown, who may read which file and who does",
    },
)
def render(c: Context, host: str = "", out: str = "", readers: bool = False) -> None:
    """Show every file that a host would get, and what the cluster would; placeholders for keys."""
    from hardway import render as rendering
    from hardway.pki import declared

    session = Session.open(c)
    if readers:
        session.console.result(rendering.READERS + rendering.readers(declared.load(session.certs), session.inventory).rstrip())
        return
    hosts = session.hosts(host)
    declarations = declared.load(session.certs)
    for one in hosts:
        for path, text in rendering.tree(declarations, session.inventory, one).items():
            if out:
                file = Path(out) / one.name / str(path).lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            else:
                session.console.result(f"# {one.name}:{path}", style="bold")
                session.console.result(text)
    if not host and out:
        (Path(out) / "cluster.yaml").write_text(rendering.in_cluster(session.inventory))  # no host's name has a dot
    elif not host:
        session.console.result("# the cluster", style="bold")
        session.console.result(rendering.in_cluster(session.inventory))


def make_so(session: Session, tell: Callable[[str], None], *, verify: bool = False) -> int:
    """Survey and push; the number of changes that were made."""
    from hardway import pod_ranges
    from hardway.push import finish, survey
    from hardway.push import push as apply
    from hardway.state import State
    from hardway.verbs.program.running import programs, running, write_kubeconfig

    state = State(session.state)
    # A cluster that refuses the push leaves state/ as it is: what was issued is kept only once that is known.
    with state.draft() as draft, running(session, draft.state, tell) as cluster:
        brought = programs(session, tell)
        found = survey(cluster, brought, verify=verify, warn=session.console.warn)
        if finish(cluster, found, tell):
            found = survey(cluster, brought, verify=verify)
        draft.keep()
        pod_ranges.settle(state, session.inventory)
        apply(cluster, found, tell)
        write_kubeconfig(session.inventory, cluster, state)
    return found.changes


def _show(session: Session, found: Survey) -> None:
    """A row for each change, then the diffs of texts; a secret shows by its path alone."""
    from hardway.plan import diff

    rows = [(p.host.name, *_row(change)) for p in found.plans for change in p.changes]
    rows += [("cluster", *_row(change)) for change in found.objects]
    if not rows:
        session.console.result("nothing to change")
        return
    session.console.table(("host", "component", "action", "what", "why"), rows)
    shown: dict[str, list[str]] = {}  # a diff is shown once, for all the hosts that have it
    for one in found.plans:
        texts = found.texts.get(one.host.name, {})
        for change in one.changes:
            if change.file and change.file.path in texts and (text := diff(change, texts[change.file.path])):
                shown.setdefault(text, []).append(one.host.name)
    for text, names in shown.items():
        session.console.result(f"\n{', '.join(names)}:\n{text}")
    session.console.result(f"\n{found.changes} changes; `./inv push` makes them")


def _row(change: Change) -> tuple[str, str, str, str]:
    return change.component, change.action, change.what, change.why
