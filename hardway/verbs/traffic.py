"""traffic: load on the cluster, and what its clients see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.cli import USAGE
from hardway.verbs.program.console import Console, Step
from hardway.verbs.program.duration import duration
from hardway.verbs.program.elsewhere import kubectl_program
from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.traffic import Beside, Report, Settings

Tell = Callable[[str], None]

LONGEST = 3600  # seconds of load that a run may ask for
AFTER = 5.0  # seconds of load behind what is done under it
SPARE = 900  # seconds for which it goes on by itself where nobody has ended it
SHOWN = 20  # failures that are shown to people; the JSON has them all
COLUMNS = ("kind", "requests", "planned", "visible", "raw", "replayed", "gap ms")


@task(
    auto_shortflags=False,
    help={
        "for": "how long, such as 60s, the default, or 10m; an hour at most",
        "json": "write the report as JSON to this file, - for standard output",
        "kubeconfig": "load the cluster of this kubeconfig, which need not be ours: a namespace of its own, and Pods if there may be any",
        "context": "with --kubeconfig: this context",
        "image": "with --kubeconfig: the Pods run this: agnhost, under the name that it has there",
        "yes": "with --kubeconfig: write what is announced",
    },
)
def traffic(  # noqa: PLR0913, PLR0917 - one parameter an option
    c: Context, for_: str = "60s", json: str = "", kubeconfig: str = "", context: str = "", image: str = "", yes: bool = False
) -> None:
    """Keep load on the cluster, and count what its clients see.

    Exits 1 if a client saw a failure that RFC 9110 lets nobody mend by asking again, or if there was less load than planned.
    """
    if not kubeconfig and (context or image or yes):
        raise Exit("traffic: --context, --image and --yes go with --kubeconfig", code=USAGE)
    seconds = duration("--for", for_).total_seconds()
    if not 1 <= seconds <= LONGEST:
        raise Mistake.at("--for", f"{for_} is not between a second and an hour")
    session = Session.open(c)
    with session.console.step("traffic") as tell:
        settings = elsewhere(session, Path(kubeconfig), context, image, yes=yes) if kubeconfig else ours(session, tell)
        with _beside(settings, tell) as load:
            load.last(seconds)
            found = _counted(load, tell)
    shown(session.console, found, json)


@contextmanager
def under(session: Session, tell: Step, json: str, *, wanted: bool, seen: Callable[[Report], None] | None = None) -> Iterator[None]:
    """What another verb does in this context is done under load, if that is wanted; the load's verdict is that of the verb too.

    `seen` is given what was counted, also where the verb has failed.
    """
    if json and not wanted:
        raise Exit("--json goes with --with-traffic", code=USAGE)
    if not wanted:
        yield
        return
    with _beside(ours(session, tell), tell) as load:
        try:
            yield
        except Mistake:
            if seen:
                with suppress(Mistake):  # why the verb has failed is what is told
                    seen(_counted(load, tell))
            raise
        tell.now("some more load, for what shows late")
        load.last(AFTER)
        found = _counted(load, tell)
    if seen:
        seen(found)
    shown(session.console, found, json)


@contextmanager
def _beside(settings: Settings, tell: Step) -> Iterator[Beside]:
    from hardway.traffic import running

    with running(settings, tell, tell.now) as load:
        tell("the load is on")
        yield load


def _counted(load: Beside, tell: Step) -> Report:
    tell.now("what was seen is counted")
    found = load.finish()
    tell.now("what was made is removed")
    return found


def ours(session: Session, tell: Tell) -> Settings:
    """The session's own cluster, as its administrator has it."""
    from hardway.components import images
    from hardway.traffic import Settings
    from hardway.verbs.program.running import KUBECONFIG

    kubeconfig = session.state / KUBECONFIG
    if not kubeconfig.exists():
        raise Mistake.at(str(kubeconfig), "is missing", "`./inv push` writes it")
    inventory = session.inventory
    return Settings(
        kubeconfig=str(kubeconfig),
        kubectl=str(_kubectl(session, tell)),
        hosts=tuple(host.name for host in inventory.on("controller")),
        image=images.reference(inventory, "agnhost") if inventory.on("worker") else "",
        longest=LONGEST + SPARE,
    )


def elsewhere(session: Session, kubeconfig: Path, context: str, image: str, *, yes: bool) -> Settings:
    """Somebody else's cluster; announced first, and a Mistake if nobody said yes."""
    from hardway.components.images import PUBLISHED
    from hardway.remote.elsewhere import Context as There
    from hardway.traffic import Settings

    tell = session.console.tell
    kubectl = _kubectl(session, tell)
    there = There.read(kubectl, kubeconfig, context)
    tell(f"context    {there.name} of {kubeconfig}")
    tell(f"server     {there.server}")
    tell(f"user       {there.user}")
    tell("writes     a namespace of its own with Pods, Services and ConfigMaps, and a webhook for these; some 70 requests a second")
    if not yes:
        raise Mistake.at("traffic", "nothing was done", "add --yes if that is to be written")
    published = PUBLISHED["agnhost"].format(version=session.inventory.versions.agnhost)
    return Settings(
        kubeconfig=str(kubeconfig.resolve()),
        kubectl=str(kubectl),
        context=there.name,
        image=image or published,
        must=False,
        longest=LONGEST + SPARE,
    )


def shown(console: Console, found: Report, json: str = "") -> None:
    """Show what was counted; the verb fails if a client saw a failure, or there was less load than planned."""
    if json:
        console.json(found.document, json)
    if json != "-":
        console.table(COLUMNS, found.rows)
        for one in found.failures[:SHOWN]:
            become = "the client saw it" if one["visible"] else "tried again"
            what = f"{one['at']} {one['kind']}: {one['method']} over {one['client']}"
            console.result(f"{what}, {one['instance'] or 'no instance'}: {one['cause']}; {become}")
        if len(found.failures) > SHOWN:
            console.result(f"… and {len(found.failures) - SHOWN} more; --json has them")
        for why, kinds in _left_out(found).items():
            console.result(f"left out {', '.join(kinds)}: {why}")
    console.tell(f"* traffic: {found.verdict}")
    if not found.green:
        raise Exit(code=1)


def _left_out(found: Report) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for kind, why in found.document["left_out"].items():
        reasons.setdefault(why, []).append(kind)
    return reasons


def _kubectl(session: Session, tell: Tell) -> Path:
    if (program := kubectl_program(session, tell)) is None:
        raise Mistake.at("kubectl", "there is none for this machine")
    return program
