"""Authorities that have expired: nobody believes them any more, so there is nothing to keep, and all of them are replaced at once."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from hardway.pki import succession
from hardway.pki.declared import Authority
from hardway.pki.succession import Step
from hardway.rotate.authority import hasten, prove
from hardway.rotate.steps import World


def replace(world: World) -> tuple[str, ...]:
    """Give each that has expired its next generation, bring all of it to the hosts, and prove it; their names.

    They were made on one day, so they end on one; and while one of them is not believed no push of another comes through.
    """
    gone = [one for one in world.declarations.wanted(world.inventory) if _expired(world, one)]
    if not gone:
        return ()
    for one in gone:
        _succeed(world, one)
    with world.cluster() as cluster:
        changes = world.push(cluster)
        for one in gone:
            hasten(world, one, cluster)
        for one in gone:
            for step in (Step.PREPARE, Step.SWITCH):
                prove(dataclasses.replace(world, fast=False), one, cluster, step)
    world.tell(f"{', '.join(one.authority for one in gone)}: replaced at once, by {changes} changes")
    return tuple(one.authority for one in gone)


def _expired(world: World, authority: Authority) -> bool:
    return succession.trust(world.state, authority.authority).signer.not_after <= datetime.now(UTC)


def _succeed(world: World, authority: Authority) -> None:
    """All steps in state/; what is killed in between is asked again from where it stands, or is an ordinary push by then."""
    name, now = authority.authority, datetime.now(UTC)
    old = succession.trust(world.state, name).signer
    if succession.done(world.state, name) is None:
        succession.prepare(authority, world.inventory, world.state, now)
    files = succession.switch(authority, world.inventory, world.state, now, unlock=world.unlock)
    succession.finish(world.state, name)
    succession.forget(world.state, name)
    new = succession.trust(world.state, name).signer
    ended = f"{old.common_name} has expired on {old.not_after:%Y-%m-%d}"
    world.tell(f"{name}: {ended}: {new.common_name} takes its place and has signed {len(files)} certificates")
