"""rotate.*: every authority and key replaced while the cluster is in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session
from hardway.verbs.traffic import under

if TYPE_CHECKING:
    from hardway.chronicle import Diary, Record
    from hardway.pki import succession
    from hardway.remote.protocol import Apply
    from hardway.rotate.steps import World
    from hardway.traffic import Report
    from hardway.verbs.program.console import Step

TRAFFIC = {
    "with-traffic": "keep load on the cluster meanwhile, and end with what its clients saw of it",
    "json": "with --with-traffic: write that report as JSON to this file, - for standard output",
}
PACE = {"pace": "fast: restart idle clients at switch instead of waiting for the timers by which they look; API servers and etcd never"}
CUT_OFF = {"cut-off": "wait for nobody who was seen to use what the older one has signed, such as a kubeconfig or token that got lost"}
UP = {"start", "restart", "restart-no-block", "reload"}  # what shows in a record
STEPS = {
    "until": "stop after this step: prepare, switch or finish; the same command goes on from there, when you want it to",
}


@task(
    auto_shortflags=False,
    positional=["name"],
    help={
        "name": "kubernetes, etcd, front-proxy or cluster-signing",
        "back": "return to the older generation, before it is finished",
        **STEPS,
        **PACE,
        **CUT_OFF,
        **TRAFFIC,
    },
)
def authority(  # noqa: PLR0913, PLR0917 - one parameter an option
    c: Context,
    name: str,
    until: str = "",
    back: bool = False,
    pace: str = "",
    cut_off: bool = False,
    with_traffic: bool = False,
    json: str = "",
) -> None:
    """Replace an authority, NAME, while the cluster is in use.

    Trust both, issue everything again by the new one, trust only that. Where it stands shows by the certificates that are
    there: interrupted anywhere, it is run again and goes on. An ordinary push between two steps keeps them. Those that have
    expired are replaced at once, all together, as nobody believes them any more.
    """
    from hardway.rotate import authority as rotation
    from hardway.rotate import expired

    session, fast, last = Session.open(c), _fast(pace), _step(until)
    if back and until:
        raise Mistake.at("rotate.authority", "--back goes all the way", "leave --until away")
    with (
        session.console.step(f"rotate {name}") as tell,
        _under_way(session, tell, name, json, with_traffic=with_traffic, fast=fast, cut_off=cut_off) as world,
    ):
        rotation.named(world, name)
        if back:
            rotation.back(world, name)
        elif name not in expired.replace(world):
            rotation.rotate(world, name, last)


@task(
    auto_shortflags=False,
    help={
        "refresh-tokens": "restart the workloads whose Pods hold older tokens, instead of waiting an hour for kubelet to bring new ones",
        **STEPS,
        **CUT_OFF,
        **TRAFFIC,
    },
)
def service_account_key(
    c: Context, until: str = "", refresh_tokens: bool = False, cut_off: bool = False, with_traffic: bool = False, json: str = ""
) -> None:
    """Replace the key that signs ServiceAccount tokens.

    It is believed everywhere first; the older is forgotten once no Pod and no Secret holds a token that it signed, and nobody was
    seen to use one.
    """
    from hardway.rotate import keys

    session, last = Session.open(c), _step(until)
    _refuse_own_load(session, last, with_traffic=with_traffic)
    with (
        session.console.step("rotate the ServiceAccount key") as tell,
        _under_way(session, tell, keys.ACCOUNT, json, with_traffic=with_traffic, cut_off=cut_off) as world,
    ):
        keys.rotate(world, keys.ACCOUNT, last, refresh=refresh_tokens)


@task(auto_shortflags=False, help={**STEPS, **TRAFFIC})
def encryption_key(c: Context, until: str = "", with_traffic: bool = False, json: str = "") -> None:
    """Replace the key of encryption at rest, and write every Secret again.

    It reads everywhere first, then it writes; the older is dropped once nothing in etcd has its name.
    """
    from hardway.rotate import keys

    session, last = Session.open(c), _step(until)
    with (
        session.console.step("rotate the encryption key") as tell,
        _under_way(session, tell, keys.SECRETS, json, with_traffic=with_traffic) as world,
    ):
        keys.rotate(world, keys.SECRETS, last)


@task(
    auto_shortflags=False,
    name="all",
    help={"refresh-tokens": "as for rotate.service-account-key", **STEPS, **PACE, **CUT_OFF, **TRAFFIC},
)
def everything(  # noqa: PLR0913, PLR0917 - one parameter an option
    c: Context,
    until: str = "",
    refresh_tokens: bool = False,
    pace: str = "",
    cut_off: bool = False,
    with_traffic: bool = False,
    json: str = "",
) -> None:
    """Replace every authority and key, each step of all of them together.

    A daemon restarts once for it, and what has to be waited for is waited for once.
    """
    from hardway.rotate import authority as rotation
    from hardway.rotate import expired, keys
    from hardway.rotate.steps import walk

    session, fast, last = Session.open(c), _fast(pace), _step(until)
    _refuse_own_load(session, last, with_traffic=with_traffic)
    with (
        session.console.step("rotate everything") as tell,
        _under_way(session, tell, "all", json, with_traffic=with_traffic, fast=fast, cut_off=cut_off) as world,
    ):
        new = expired.replace(world)
        names = [one.authority for one in world.declarations.wanted(world.inventory) if one.authority not in new]
        courses = [rotation.course(world, name) for name in names]
        walk(world, "all", [*courses, keys.course(world, keys.ACCOUNT, refresh=refresh_tokens), keys.course(world, keys.SECRETS)], last)


def _refuse_own_load(session: Session, last: succession.Step, *, with_traffic: bool) -> None:
    """A load is a user of tokens as well: what it has begun with it uses for an hour, and the older key would be needed for so long."""
    from hardway.pki.succession import Step, key_done
    from hardway.rotate import keys
    from hardway.state import State

    if with_traffic and last is Step.FINISH and key_done(State(session.state), keys.ACCOUNT) in {None, Step.PREPARE}:
        what = "the load's own client goes on with its token for an hour, and the key that has signed it has to stay"
        raise Mistake.at("--with-traffic", what, "add --until switch; the same without it goes on from there, with a load of its own")


def _fast(pace: str) -> bool:
    if pace not in {"", "fast"}:
        raise Mistake.at("--pace", f"there is no {pace}", "there is fast; left out, what takes its time is waited for")
    return pace == "fast"


def _step(until: str) -> succession.Step:
    from hardway.pki import succession

    known = [step.value for step in succession.Step]
    if until and until not in known:
        raise Mistake.at("--until", f"there is no step {until}", f"there are {', '.join(known)}")
    return succession.Step(until or "finish")


@contextmanager
def _under_way(  # noqa: PLR0913 - what is replaced, and how
    session: Session, tell: Step, what: str, json: str, *, with_traffic: bool, fast: bool = False, cut_off: bool = False
) -> Iterator[World]:
    """What a rotation stands on, under load if that is wanted; what happened is kept in state/, however it ends."""
    from hardway import chronicle
    from hardway.state import State

    def keep(record: Record) -> str:
        try:
            return f"{session.state / chronicle.keep(State(session.state), record)}: what happened; `./inv certs --html` draws it"
        except Mistake as mistake:  # it stops nothing
            return str(mistake)

    diary = chronicle.Diary(what=what, noted=keep)

    def seen(found: Report) -> None:
        diary.load = chronicle.Load.of(found.document)

    try:
        with under(session, tell, json, wanted=with_traffic, seen=seen), diary.whole():
            yield _world(session, tell, diary, fast=fast, cut_off=cut_off)
    finally:
        if record := diary.record:
            tell(keep(record))


def _world(session: Session, tell: Step, diary: Diary, *, fast: bool, cut_off: bool) -> World:
    from hardway.pki import declared
    from hardway.push import push as apply
    from hardway.push import settled, survey
    from hardway.remote.cluster import Cluster
    from hardway.rotate.steps import World
    from hardway.snapshot.save import place, save
    from hardway.state import State
    from hardway.verbs.program.running import programs, running, write_kubeconfig

    state, brought = State(session.state), programs(session, tell)

    def witness(host: str, change: Apply) -> AbstractContextManager[None]:
        return diary.restarting(host, [(one.unit, one.verb) for one in change.actions if one.verb in UP])

    def pending(cluster: Cluster) -> int:
        return survey(cluster, brought).changes

    def push(cluster: Cluster) -> int:
        found = settled(cluster, partial(survey, cluster, brought), tell)
        apply(cluster, found, tell)
        write_kubeconfig(session.inventory, cluster, state)
        return found.changes

    def snapshot(cluster: Cluster) -> None:
        now = datetime.now(UTC)
        path = place(state, now, "before-rotation")
        save(cluster, path, now, tell)
        tell(f"{path}: a snapshot, should it be needed")

    return World(
        inventory=session.inventory,
        declarations=declared.load(session.certs),
        state=state,
        cluster=lambda: running(session, state, tell, issuing=False, witness=witness),
        push=push,
        pending=pending,
        snapshot=snapshot,
        unlock=session.passphrase,
        phase=diary.phase,
        tell=tell,
        fast=fast,
        cut_off=cut_off,
    )
