"""The steps of a rotation: each is taken in state/, brought to the hosts by the ordinary push, and proved where it shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from hardway.chronicle import Part
from hardway.components import ALL
from hardway.errors import Finding, Mistake
from hardway.inventory import Inventory
from hardway.pki import kept, succession
from hardway.pki.declared import Declarations
from hardway.pki.succession import Step
from hardway.push import closed
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.state import State

Tell = Callable[[str], None]

AT_ONCE = 16  # hosts

Phase = Callable[[str, str, Part], AbstractContextManager[None]]  # of what, and of which step: entered while it lasts


def unwritten(of: str, step: str, part: Part) -> AbstractContextManager[None]:  # noqa: ARG001 - a Phase
    """Nobody writes down what happens."""
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a rotation stands on."""

    inventory: Inventory
    declarations: Declarations
    state: State
    cluster: Callable[[], AbstractContextManager[Cluster]]  # with what state/ holds at that moment
    push: Callable[[Cluster], int]  # the ordinary one; how many changes it made
    pending: Callable[[Cluster], int]  # how many it would make
    snapshot: Callable[[Cluster], None]  # of etcd, verified, before anything is changed
    unlock: kept.Unlock  # the keys of authorities, where they are sealed
    tell: Tell
    phase: Phase = unwritten
    fast: bool = False  # idle clients are restarted where their timers would be waited for
    cut_off: bool = False  # nobody is waited for who uses what the older one has signed, beyond hosts and Pods


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the rotation of one thing does at each step."""

    name: str
    done: Step | None  # the last one that state/ has taken
    allow: Callable[[Step], None]  # a Mistake if something keeps it from that step
    take: Callable[[Step], None]  # change state/, and nothing else
    prove: Callable[[Cluster, Step], None]  # what is on the hosts by now
    forget: Callable[[], None]  # that it was under way, once all is proved


def walk(world: World, name: str, courses: Sequence[Course], last: Step) -> None:
    """Take the steps up to `last`, each of all together: one push, one wait. What was interrupted goes on."""
    _begin(world, courses, last)
    for step in Step:
        under_way = [one for one in courses if not succession.passed(one.done, step)]
        if not under_way:
            continue
        with world.phase(name, step.value, "take"):
            due = [one for one in under_way if one.done is not step]
            for one in due:  # all or none, so that nothing has to go on its own
                one.allow(step)
            for one in due:
                one.take(step)
        bring(world, name, under_way, step)
        if step is last:
            break
    if last is Step.FINISH:
        for one in courses:
            one.forget()


def bring(world: World, name: str, courses: Iterable[Course], step: Step) -> None:
    """Push what state/ holds, and prove it."""
    began = time.monotonic()
    with world.cluster() as cluster:
        with world.phase(name, step.value, "push"):
            changes = world.push(cluster)
        pushed = time.monotonic() - began
        with world.phase(name, step.value, "prove"):
            for one in courses:
                one.prove(cluster, step)
    spent = time.monotonic() - began
    world.tell(f"{name}: {step.value}: {changes} changes in {pushed:.1f} s, proved after {spent - pushed:.1f} s more")


def _begin(world: World, courses: Sequence[Course], last: Step) -> None:
    """Where they stand; a new one begins only where all is well, and after a snapshot."""
    for one in courses:
        if one.done and succession.passed(one.done, last):
            what = f"it is beyond {last.value} already: {one.done.value} is under way"
            raise Mistake.at(one.name, what, "leave --until away, or use --back")
        if one.done:
            world.tell(f"{one.name}: goes on, {one.done.value} is under way")
    if all(one.done for one in courses):
        return
    with world.cluster() as cluster:
        if not any(one.done for one in courses):  # else it is the beginning that was interrupted
            _refuse_unless_fit(world, cluster)
        world.snapshot(cluster)


def _refuse_unless_fit(world: World, cluster: Cluster) -> None:
    """Begin only where nothing is ill and nothing else is pending: a rotation is no time to find out."""
    if pending := world.pending(cluster):
        raise Mistake.at("", f"{pending} changes are pending", "look at `./inv plan`, run `./inv push`, then rotate")
    findings = [
        Finding(where=host.name, what=f"{component.name} is not well: {why}", next_step="mend it first")
        for component in ALL
        for host, why in each(component.hosts(cluster.inventory), partial(closed, cluster, component, arrived=True), AT_ONCE).items()
        if why
    ]
    if findings:
        raise Mistake(*findings)
