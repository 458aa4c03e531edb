"""An authority is followed by its next generation: prepare, switch, finish; run again, it goes on from where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import PurePosixPath

from hardway.components import ALL
from hardway.desired import Component, Secret
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.pki import kept, succession
from hardway.pki.declared import Authority, Declarations
from hardway.pki.pair import leaf
from hardway.pki.request import Request
from hardway.pki.succession import Step
from hardway.pki.trust import Generation
from hardway.proof import prove, renewed
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import Failure, attempt
from hardway.rotate import believed, needed, signing
from hardway.rotate.doors import shown_by
from hardway.state import State

Tell = Callable[[str], None]

AT_ONCE = 16  # hosts
EFFECT = 60.0  # seconds until others do as they are told
ORDER = tuple(Step)
ERRAND = timedelta(minutes=30)  # what a probe's certificate is good for


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

    def authority(self, name: str) -> Authority:
        found = {one.authority: one for one in self.declarations.wanted(self.inventory)}
        if name not in found:
            raise Mistake.at("rotate.authority", f"there is no authority {name}", f"there are {', '.join(sorted(found))}")
        return found[name]


def rotate(world: World, name: str, last: Step = Step.FINISH) -> None:
    """Take an authority through the steps up to `last`. What was interrupted goes on; what is proved is not proved again."""
    authority = world.authority(name)
    done = succession.done(world.state, name)
    begin(world, name, done, last)
    for step in ORDER:
        if succession.passed(done, step):
            continue
        if step != done:
            _take(world, authority, step)
        _bring(world, authority, step)
        if step is last:
            break
    if last is Step.FINISH:
        succession.forget(world.state, name)
        world.tell(f"{name}: {succession.trust(world.state, name).signer.common_name} is all that is trusted")


def back(world: World, name: str) -> None:
    """Return to the generation before, as long as that is still trusted."""
    authority = world.authority(name)
    done = succession.done(world.state, name)
    if done is None:
        raise Mistake.at(name, "no rotation is under way", "there is nothing to go back from")
    if done is Step.FINISH and not _given_up(world.state, name):
        raise Mistake.at(name, "the older generation is trusted no more", "finish it by running it without --back; then rotate again")
    if done is Step.SWITCH:
        files = succession.switch(authority, world.inventory, world.state, datetime.now(UTC), back=True, unlock=world.unlock)
        world.tell(f"{name}: {len(files)} certificates were issued by {succession.trust(world.state, name).signer.common_name} again")
        _bring(world, authority, Step.SWITCH)
    if done is not Step.FINISH:
        succession.finish(world.state, name)
    _bring(world, authority, Step.FINISH)
    succession.forget(world.state, name)
    world.tell(f"{name}: {succession.trust(world.state, name).signer.common_name} is all that is trusted, as before")


def begin(world: World, name: str, done: Step | None, last: Step) -> None:
    """Where it stands; a new one begins only where all is well, and after a snapshot."""
    if succession.passed(done, last):
        raise Mistake.at(
            name, f"it is beyond {last.value} already: {done.value if done else ''} is under way", "leave --until away, or use --back"
        )
    if done:
        world.tell(f"{name}: goes on, {done.value} is under way")
        return
    with world.cluster() as cluster:
        refuse_unless_fit(world, cluster)
        world.snapshot(cluster)


def refuse_unless_fit(world: World, cluster: Cluster) -> None:
    """Begin only where nothing is ill and nothing else is pending: a rotation is no time to find out."""
    if pending := world.pending(cluster):
        raise Mistake.at("", f"{pending} changes are pending", "look at `./inv plan`, run `./inv push`, then rotate")
    findings: list[Finding] = []
    for component in ALL:
        answers = attempt(component.hosts(cluster.inventory), partial(_closed, cluster, component), AT_ONCE)
        for host, answer in answers.items():
            why = [str(answer.error)] if isinstance(answer, Failure) else answer
            findings += (Finding(where=host.name, what=f"{component.name} is not well: {one}", next_step="mend it first") for one in why)
    if findings:
        raise Mistake(*findings)


def _closed(cluster: Cluster, component: Component, host: Host) -> list[str]:
    return [why for gate in component.roll.gates if (why := gate.ask(cluster, host))]


def _take(world: World, authority: Authority, step: Step) -> None:
    """Change state/, and nothing else."""
    name, now = authority.authority, datetime.now(UTC)
    match step:
        case Step.PREPARE:
            made = succession.prepare(authority, world.inventory, world.state, now)
            world.tell(f"{name}: prepare: {made.common_name} is made, and will be trusted beside the older one")
        case Step.SWITCH:
            files = succession.switch(authority, world.inventory, world.state, now, unlock=world.unlock)
            world.tell(f"{name}: switch: {len(files)} certificates are issued by the new generation")
        case Step.FINISH:
            with world.cluster() as cluster:
                needed.refuse_if_needed(cluster, authority, cluster.credentials.trusts[name])
            gone = succession.finish(world.state, name)
            world.tell(f"{name}: finish: {', '.join(one.common_name for one in gone)} will be trusted no more")


def _bring(world: World, authority: Authority, step: Step) -> None:
    """Push what state/ holds, and prove it where it shows."""
    name, began = authority.authority, time.monotonic()
    with world.cluster() as cluster:
        changes = world.push(cluster)
        pushed = time.monotonic() - began
        match step:
            case Step.PREPARE:
                probe = _probe(world, authority, succession.trust(world.state, name).trusted[-1])
                believed.everywhere(cluster, authority, probe, world.tell)
            case Step.SWITCH:
                _prove(cluster, world, authority)
            case Step.FINISH:
                for old in succession.retired(world.state, name):
                    believed.nowhere(cluster, authority, _probe(world, authority, old), world.tell)
        if step is Step.FINISH:
            signing.tell_no_more(cluster, authority)
        _prove_effects(cluster, world, authority, alone=step is Step.FINISH)
    spent = time.monotonic() - began
    world.tell(f"{name}: {step.value}: {changes} changes in {pushed:.1f} s, proved after {spent - pushed:.1f} s more")


def _prove(cluster: Cluster, world: World, authority: Authority) -> None:
    """That every certificate of an authority is in use."""
    files = [(host.name, path) for host, path in _places(authority, cluster.inventory)]
    failed = [one for one in prove(cluster, renewed(cluster, world.declarations, files), world.tell) if one.failure]
    if failed:
        raise Mistake(*(Finding(where=str(one.renewed), what=one.failure, next_step="run it again") for one in failed))


def _prove_effects(cluster: Cluster, world: World, authority: Authority, *, alone: bool) -> None:
    """What others do by it: sign, and believe a front proxy."""
    questions = signing.told(cluster, authority, alone=alone)
    if authority.signs_in:
        wanted = cluster.credentials.trusts[authority.authority].signer.common_name
        questions["kube-controller-manager"] = partial(signing.signs, cluster, wanted)
    believed.until_all(questions, within=EFFECT, tell=world.tell)


def _places(authority: Authority, inventory: Inventory) -> list[tuple[Host, PurePosixPath]]:
    declared = [one for one in authority.certificates.values() if one.path and one.role != "operator"]
    return [(host, one.path) for one in declared if one.path and one.role != "operator" for host in inventory.on(one.role)]


def _probe(world: World, authority: Authority, signer: Generation) -> Secret:
    """A certificate for a probe, in memory only."""
    name, state = authority.authority, world.state
    everybody = {**kept.generations(state, name), **kept.generations(state, name, "retired")}
    pair = kept.opened(state, signer.file, everybody[signer], "a probe", world.unlock)
    request = Request(authority=name, certificate="probe", common_name=shown_by(authority), usages=("client",))
    return Secret(leaf(request, pair, now=datetime.now(UTC), lifetime=ERRAND).pem)


def _given_up(state: State, name: str) -> bool:
    """Whether what is retired is newer than what signs: then going back is what was under way."""
    signer = succession.trust(state, name).signer
    return all(one.not_before >= signer.not_before for one in succession.retired(state, name))
