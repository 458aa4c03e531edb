"""Authorities that have expired: nobody believes them any more, so there is nothing to keep, and all of them are replaced at once."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from functools import partial

from hardway.components import ALL
from hardway.desired import Component
from hardway.errors import Unready
from hardway.inventory import Host
from hardway.pki import succession
from hardway.pki.declared import Authority
from hardway.pki.succession import Step
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.rotate.authority import clients, prove
from hardway.rotate.steps import AT_ONCE, World

STEP = "replace"  # the only one
PODS = "kubernetes"  # proved first: what the others are proved by runs in Pods, which believe nobody before they know its successor


def replace(world: World) -> tuple[str, ...]:
    """Give each that has expired its next generation, bring all of it to the hosts, and prove it; their names.

    They were made on one day, so they end on one; and while one of them is not believed no push of another comes through.
    """
    gone = [one for one in world.declarations.wanted(world.inventory) if _expired(world, one)]
    if not gone:
        return ()
    named = ", ".join(one.authority for one in gone)
    with world.phase(named, STEP, "take"):
        for one in gone:
            _succeed(world, one)
    with world.cluster() as cluster:
        with world.phase(named, STEP, "push"):
            for component in dict.fromkeys(component for one in gone for component in _useless(one)):
                each(component.hosts(world.inventory), partial(_stop, cluster, component), AT_ONCE)
            unready = _push(world, cluster, pods=any(one.authority == PODS for one in gone))
        with world.phase(named, STEP, "prove"):
            patient = dataclasses.replace(world, fast=False)  # who would be restarted for pace has just been started
            for one in sorted(gone, key=lambda one: one.authority != PODS):
                for step in (Step.PREPARE, Step.SWITCH):
                    prove(patient, one, cluster, step)
                if unready:
                    world.push(cluster)
                    unready = False
    world.tell(f"{named}: replaced at once")
    return tuple(one.authority for one in gone)


def _push(world: World, cluster: Cluster, *, pods: bool) -> bool:
    """Whether a part of it has to wait until Pods have followed: they go by the bundle that they have for five minutes."""
    try:
        world.push(cluster)
    except Unready as unready:
        if not pods:
            raise
        world.tell(f"goes on, as Pods still go by what they had: {unready}")
        return True
    return False


def _useless(authority: Authority) -> tuple[Component, ...]:
    """Who would look for what is new in five minutes only; and whose members know each other by it, and begin together or not at all."""
    return (*(one for one in ALL if one.name == authority.authority), *clients(authority))


def _stop(cluster: Cluster, component: Component, host: Host) -> None:
    """Nobody believes it; the push starts it with what is new."""
    cluster.run(host, "systemctl", "stop", component.unit)


def _expired(world: World, authority: Authority) -> bool:
    return succession.trust(world.state, authority.authority).signer.not_after <= datetime.now(UTC)


def _succeed(world: World, authority: Authority) -> None:
    """All steps in state/; what is killed in between is asked again from where it stands, or is an ordinary push by then."""
    name, now = authority.authority, datetime.now(UTC)
    old = succession.trust(world.state, name).signer
    if succession.done(world.state, name) is None:
        succession.prepare(authority, world.inventory, world.state, now, world.unlock)
    files = succession.switch(authority, world.inventory, world.state, now, unlock=world.unlock)
    succession.finish(world.state, name)
    succession.forget(world.state, name)
    new = succession.trust(world.state, name).signer
    ended = f"{old.common_name} has expired on {old.not_after:%Y-%m-%d}"
    world.tell(f"{name}: {ended}: {new.common_name} takes its place and has signed {len(files)} certificates")
