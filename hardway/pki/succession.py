"""One generation follows another, in state/: each step is a change of which files are there, so where it stands shows by them (8).

prepare   a new generation is there, and trusted; the old one still signs
switch    everything is issued again by the new one; the old one is still trusted
finish    the old one is retired: trusted no more, its key kept until it is proved that nobody believes it
forget    and then without its key
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import PurePosixPath
from typing import Literal

from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import kept
from hardway.pki.declared import Authority, Declarations
from hardway.pki.pair import Pair, leaf, new_key, private_pem, root
from hardway.pki.request import Request, requests
from hardway.pki.trust import Generation, Phase, Trust
from hardway.state import State

WITNESS = "witness"  # the certificate that says who signs, of an authority that signs nothing in state/


class Step(Enum):
    """What a succession is made of, in this order."""

    PREPARE = "prepare"
    SWITCH = "switch"
    FINISH = "finish"


def passed(done: Step | None, last: Step) -> bool:
    """Whether a succession has gone beyond a step already."""
    order = tuple(Step)
    return done is not None and order.index(done) > order.index(last)


def done(state: State, authority: str) -> Step | None:
    """The last step that state/ has taken; None if no succession is under way."""
    match trust(state, authority).phase:
        case Phase.PREPARED:
            return Step.PREPARE
        case Phase.SWITCHED:
            return Step.SWITCH
        case Phase.SETTLED:
            return Step.FINISH if retired(state, authority) else None


def trust(state: State, authority: str) -> Trust:
    """Who is trusted and who signs."""
    found = kept.generations(state, authority)
    if not found:
        raise Mistake.at(str(state.path(f"pki/{authority}")), "the authority is not here", kept.RESTORE)
    return kept.trust(found, kept.leaves(state, authority).values(), kept.generations(state, authority, "retired"))


def retired(state: State, authority: str) -> Mapping[Generation, Pair]:
    """Those of which it is not yet proved that nobody believes them: they still have their key, here or apart."""
    found = kept.generations(state, authority, "retired")
    return {one: pair for one, pair in found.items() if pair.key or pair.sealed or state.path(kept.apart(_retired(one))).is_symlink()}


def prepare(authority: Authority, inventory: Inventory, state: State, now: datetime, unlock: kept.Unlock = kept.locked) -> Generation:
    """Make the next generation, its key under the same passphrase if the older one's is. It signs nothing yet."""
    name = authority.authority
    signer = trust(state, name).signer
    there = kept.generations(state, name)[signer]
    if there.chain:
        what = f"{signer.common_name} is below an authority of yours, so the next one is yours to make"
        step = f"put it there as authority-{kept.next_name([signer.name], now)}.pem with its chain, and run this again"
        raise Mistake.at(str(state.path(f"pki/{name}")), what, step)
    passphrase = _passphrase(state, signer, there, unlock)
    with state.locked():
        taken = [one.name for kind in _KINDS for one in kept.generations(state, name, kind)]
        generation = kept.next_name(taken, now)
        made = root(f"{authority.common_name}-{generation}", keys=inventory.keys, days=authority.days, now=now)
        sealed = None if passphrase is None else made.closed(passphrase).sealed
        state.write(f"pki/{name}/authority-{generation}.pem", made.certificate_pem + sealed if sealed else made.pem)
    return kept.generation(name, generation, made)


def _passphrase(state: State, signer: Generation, there: Pair, unlock: kept.Unlock) -> bytes | None:
    """What seals the older key; None if nothing does, or if it is lost. One that is elsewhere has to be brought."""
    if there.key or not (there.sealed or state.path(kept.apart(signer.file)).is_symlink()):
        return None
    given = []

    def noted(what: str) -> bytes:
        given.append(unlock(what))
        return given[0]

    kept.opened(state, signer.file, there, "the next generation, which is sealed as it is", noted)
    return given[0]


def switch(
    authority: Authority, inventory: Inventory, state: State, now: datetime, *, back: bool = False, unlock: kept.Unlock = kept.locked
) -> tuple[str, ...]:
    """Issue everything again by the newest generation, `back` by the one before it; the files that were written."""
    name = authority.authority
    found = kept.generations(state, name)
    signer = trust(state, name).trusted[-2 if back else -1]
    pair, leaves = kept.opened(state, signer.file, found[signer], "everything that it is to sign", unlock), kept.leaves(state, name)
    witness = Request(authority=name, certificate=WITNESS, common_name=WITNESS, usages=("client",))
    wanted = requests(Declarations(authorities=(authority,)), inventory) or (witness,)
    with state.locked():
        stale = [one for one in wanted if not (isinstance(there := leaves.get(one.file), Pair) and pair.signed(there))]
        for one in stale:
            state.write(one.file, leaf(one, pair, now=now).pem)
    return tuple(one.file for one in stale)


def finish(state: State, authority: str) -> tuple[Generation, ...]:
    """Retire every generation but the one that signs: the older ones, or a newer one that was given up before it signed anything."""
    signer = trust(state, authority).signer
    with state.locked():
        gone = tuple(one for one in kept.generations(state, authority) if one != signer)
        for one in gone:
            state.move(kept.apart(one.file), kept.apart(_retired(one)))  # the key first: what has no certificate counts for nothing
            state.move(one.file, _retired(one))
    return gone


def forget(state: State, authority: str) -> None:
    """Keep of the retired what shows that they were ours, and no key."""
    with state.locked():
        for one in retired(state, authority):
            state.write(_retired(one), one.certificate.encode())
            state.remove(kept.apart(_retired(one)))


def _retired(one: Generation) -> str:
    return f"pki/{one.authority}/retired-{one.name}.pem"


_KINDS: tuple[Literal["authority", "retired"], ...] = ("authority", "retired")


# Keys without a certificate go the same way: next-<generation> verifies and reads, key-<generation> also signs and writes.


def key_done(state: State, name: str) -> Step | None:
    """The same for keys."""
    if kept.upcoming(state, name):
        return Step.PREPARE
    if len(kept.keys(state, name)) > 1:
        return Step.SWITCH
    return Step.FINISH if _retired_keys(state, name) else None


def prepare_key(name: str, inventory: Inventory, state: State, now: datetime) -> str:
    """Make the next key; its name is never one that was used before."""
    with state.locked():
        taken = [PurePosixPath(file).stem.partition("-")[2] for file in state.glob(f"pki/{name}/*")]
        generation = kept.next_name(taken, now)
        if name == "encryption":
            state.write(f"pki/{name}/next-{generation}", base64.b64encode(secrets.token_bytes(32)))
        else:
            state.write(f"pki/{name}/next-{generation}.pem", private_pem(new_key(inventory.keys)))
    return generation


def switch_key(state: State, name: str) -> None:
    """From now on the next key signs and writes."""
    with state.locked():
        for file in kept.upcoming(state, name):
            state.move(file, file.replace("/next-", "/key-"))


def finish_key(state: State, name: str) -> tuple[str, ...]:
    """Retire every key but the one that signs."""
    with state.locked():
        gone = kept.keys(state, name)[:-1]
        for file in gone:
            state.move(file, file.replace("/key-", "/retired-"))
    return gone


def forget_key(state: State, name: str) -> None:
    """Drop what is retired; the files stay by their names, so that none is used again."""
    with state.locked():
        for file in _retired_keys(state, name):
            state.write(file, b"")


def _retired_keys(state: State, name: str) -> tuple[str, ...]:
    """Those of which it is not yet proved that nobody uses them."""
    return tuple(file for file in state.glob(f"pki/{name}/retired-*") if state.read(file))
