"""An authority is followed by its next generation: prepare, switch, finish; run again, it goes on from where it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from hardway import proof
from hardway.components import ALL, kubelet
from hardway.desired import Component, Pickup, Secret
from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.pki import kept, succession
from hardway.pki.declared import Authority
from hardway.pki.pair import leaf
from hardway.pki.request import Request
from hardway.pki.succession import Step
from hardway.pki.trust import Generation
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.restart import restart
from hardway.rotate import believed, needed, signing, used
from hardway.rotate.doors import shown_by
from hardway.rotate.steps import AT_ONCE, Course, World, bring, walk
from hardway.state import State

NEVER = frozenset({"etcd", "kube-apiserver"})
PEOPLES = "kubernetes"  # signs for people, and their kubeconfigs believe it
YOUNGER = "younger"
EFFECT = 60.0  # seconds until others do as they are told
ERRAND = timedelta(minutes=30)  # what a probe's certificate is good for


def rotate(world: World, name: str, last: Step = Step.FINISH) -> None:
    """Take an authority through the steps up to `last`."""
    walk(world, name, [course(world, name)], last)


def back(world: World, name: str) -> None:
    """Return to the generation before, as long as that is still trusted."""
    one = course(world, name)
    if one.done is None:
        raise Mistake.at(name, "no rotation is under way", "there is nothing to go back from")
    if one.done is Step.FINISH and not _given_up(world.state, name):
        raise Mistake.at(name, "the older generation is trusted no more", "finish it by running it without --back; then rotate again")
    if one.done is Step.SWITCH:
        files = succession.switch(named(world, name), world.inventory, world.state, datetime.now(UTC), back=True, unlock=world.unlock)
        world.tell(f"{name}: {len(files)} certificates were issued by {_signer(world, name)} again")
        bring(world, name, [one], Step.SWITCH)
    if one.done is not Step.FINISH:
        succession.finish(world.state, name)
    bring(world, name, [one], Step.FINISH)
    _forget(world, name)


def named(world: World, name: str) -> Authority:
    """The authority of a name; a Mistake with those that there are."""
    found = {one.authority: one for one in world.declarations.wanted(world.inventory)}
    if name not in found:
        raise Mistake.at("rotate.authority", f"there is no authority {name}", f"there are {', '.join(sorted(found))}")
    return found[name]


def _signer(world: World, name: str) -> str:
    return succession.trust(world.state, name).signer.common_name


def _forget(world: World, name: str) -> None:
    succession.forget(world.state, name)
    world.tell(f"{name}: {_signer(world, name)} is all that is trusted")


def course(world: World, name: str) -> Course:
    """How an authority is replaced."""
    authority = named(world, name)
    return Course(
        name=name,
        done=succession.done(world.state, name),
        allow=partial(_allow, world, authority),
        take=partial(_take, world, authority),
        prove=partial(prove, world, authority),
        forget=partial(_forget, world, name),
    )


def _allow(world: World, authority: Authority, step: Step) -> None:
    name, now = authority.authority, datetime.now(UTC)
    match step:
        case Step.PREPARE:
            pass
        case Step.SWITCH:
            _refuse_blind(world, name, now)
        case Step.FINISH:
            with world.cluster() as cluster:
                trust = cluster.credentials.trusts[name]
                needed.refuse_if_needed(cluster, authority, trust)
                if name == PEOPLES:
                    used.refuse(used.certificates(cluster, world.state, trust, now), world.tell, cut_off=world.cut_off)


def _take(world: World, authority: Authority, step: Step) -> None:
    name, now = authority.authority, datetime.now(UTC)
    match step:
        case Step.PREPARE:
            made = succession.prepare(authority, world.inventory, world.state, now, world.unlock)
            world.tell(f"{name}: prepare: {made.common_name} is made, and will be trusted beside the older one")
        case Step.SWITCH:
            files = succession.switch(authority, world.inventory, world.state, now, unlock=world.unlock)
            world.tell(f"{name}: switch: {len(files)} certificates are issued by the new generation")
        case Step.FINISH:
            gone = succession.finish(world.state, name)
            world.tell(f"{name}: finish: {', '.join(one.common_name for one in gone)} will be trusted no more")


def _refuse_blind(world: World, name: str, now: datetime) -> None:
    """People whose kubeconfigs would not believe an API server any more, as soon as it shows what the new generation has signed."""
    if name == PEOPLES:
        with world.cluster() as cluster:
            newest = cluster.credentials.trusts[name].trusted[-1].common_name
            used.refuse(used.believers(cluster, world.state, newest, now), world.tell, cut_off=world.cut_off)


def prove(world: World, authority: Authority, cluster: Cluster, step: Step) -> None:
    """That a step has come to wherever it shows."""
    match step:
        case Step.PREPARE:
            newest = cluster.credentials.trusts[authority.authority].trusted[-1]
            believed.everywhere(cluster, authority, _probe(world, authority, newest), world.tell)
        case Step.SWITCH:
            for component in clients(authority) if world.fast else ():
                if component is kubelet.COMPONENT:  # it is made to ask (proof.py), and a restart would end every `exec` on its node
                    continue
                answers = each(component.hosts(world.inventory), partial(_is_older, cluster, authority, component), AT_ONCE)
                if older := tuple(host for host, is_older in answers.items() if is_older):
                    restart(cluster, component, older, world.tell)
            _prove_used(world, authority, cluster)
        case Step.FINISH:
            for old in succession.retired(world.state, authority.authority):
                believed.nowhere(cluster, authority, _probe(world, authority, old), world.tell)
            signing.tell_no_more(cluster, authority)
    questions = signing.told(cluster, authority, alone=step is Step.FINISH)
    if authority.signs_in:
        questions["kube-controller-manager"] = partial(signing.signs, cluster, cluster.signer(authority.authority))
    believed.until_all(questions, within=EFFECT, tell=world.tell)


def clients(authority: Authority) -> tuple[Component, ...]:
    """Who looks at its own certificate of an authority in five minutes only, and may be restarted; never what everybody needs (4)."""
    read_by = [one.read_by for one in authority.certificates.values() if one.path]
    readers = {reader for by in read_by for reader, pickup in by.items() if pickup is Pickup.POLL}
    return tuple(one for one in ALL if one.unit in readers and one.name not in NEVER)


def _is_older(cluster: Cluster, authority: Authority, component: Component, host: Host) -> bool:
    """Whether it has begun before its certificate came; else it has read it."""
    paths = [one.path for one in authority.certificates.values() if one.path and one.read_by.get(component.unit) is Pickup.POLL]
    ages = [cluster.run(host, "sh", "-c", believed.AGE, "sh", str(path), component.unit, YOUNGER).strip() for path in paths]
    return any(age != YOUNGER for age in ages)


def _prove_used(world: World, authority: Authority, cluster: Cluster) -> None:
    """That every certificate of an authority is in use."""
    places = [(one.role, one.path) for one in authority.certificates.values() if one.path and one.role != "operator"]
    files = [(host.name, path) for role, path in places for host in cluster.inventory.on(role)]
    failed = [one for one in proof.prove(cluster, proof.renewed(cluster, world.declarations, files), world.tell) if one.failure]
    if failed:
        raise Mistake(*(Finding(where=str(one.renewed), what=one.failure, next_step="run it again") for one in failed))


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
