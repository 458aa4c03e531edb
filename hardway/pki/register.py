"""Every authority, certificate and key that a cluster should have, as state/ holds it: also what is missing, damaged or expired there."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

from hardway.desired import Own, Use
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.pki import kept, own
from hardway.pki.credentials import placeholders
from hardway.pki.declared import Authority, Certificate, Declarations, Place
from hardway.pki.issue import unusable
from hardway.pki.pair import Pair, UnreadableError
from hardway.pki.request import Request, requests
from hardway.pki.trust import Generation, Trust
from hardway.state import State

Kind = Literal["authority", "certificate", "key", "bundle", "kubeconfig"]
_CLIENT = re.compile(r"client-certificate-data:\s*(\S+)")
Uses = Mapping[tuple[str, PurePosixPath], tuple[Use, ...]]  # by host and path


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One of them, in one place: on a host if it has a path, else in state/ alone."""

    kind: Kind
    name: str
    authority: str = ""  # whose it is, or who signed it
    host: str | None = None
    path: PurePosixPath | None = None
    uses: tuple[Use, ...] = ()
    file: str = ""  # in state/
    subject: str = ""
    sans: tuple[str, ...] = ()
    issuer: str = ""  # the generation that signed it
    serial: int | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    problem: str = ""  # missing, damaged, not as declared
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What state/ holds of one authority."""

    declared: Authority
    generations: Mapping[Generation, Pair]
    leaves: Mapping[str, Pair | UnreadableError]
    trust: Trust | None

    @property
    def signer(self) -> Pair | None:
        return self.generations[self.trust.signer] if self.trust else None


def register(declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> tuple[Item, ...]:
    """Read all of state/. Nothing that is wrong there stops it: it is told in its item."""
    placed = placeholders(declarations, inventory)
    uses = {(host.name, file.path): file.uses for host in inventory.hosts for file in placed.files(host)}
    wanted = requests(declarations, inventory)
    there: dict[str, _Kept] = {}
    items: list[Item] = []
    for authority in declarations.wanted(inventory):
        name = authority.authority
        try:
            generations = kept.generations(state, name)
        except Mistake as mistake:
            items.append(Item(kind="authority", name=name, authority=name, problem="; ".join(f.what for f in mistake.findings)))
            continue
        leaves = kept.leaves(state, name)
        there[name] = _Kept(
            declared=authority,
            generations=generations,
            leaves=leaves,
            trust=kept.trust(generations, leaves.values()) if generations else None,
        )
        items += _authorities(there[name])
        items += (_certificate(request, there[name], uses, now) for request in wanted if request.authority == name)
    items += _on_hosts(there, inventory, uses)
    for name in declarations.keys:
        items += _keys(name, state)
    for pair in declarations.key_pairs:
        private, public = ((one, "private key") for one in pair.private_in), ((one, "public keys") for one in pair.public_in)
        items += (
            Item(kind="key", name=pair.key_pair, host=host.name, path=place.path, uses=uses[host.name, place.path], note=what)
            for place, what in (*private, *public)
            for host in inventory.on(place.role)
        )
    return tuple(items)


def _authorities(there: _Kept) -> Iterator[Item]:
    name = there.declared.authority
    if there.trust is None:
        yield Item(kind="authority", name=name, authority=name, problem="missing")
        return
    for generation in there.trust.trusted:
        pair = there.generations[generation]
        signs = generation == there.trust.signer
        yield Item(
            kind="authority",
            name=generation.common_name,
            authority=name,
            file=generation.file,
            subject=f"CN={generation.common_name}",
            issuer=pair.issuer,
            serial=pair.certificate.serial_number,
            not_before=generation.not_before,
            not_after=generation.not_after,
            problem="its key is missing" if there.declared.signs_in and pair.key is None else "",
            note=_standing(pair) if signs else "trusted",
        )


def retired(declarations: Declarations, inventory: Inventory, state: State) -> tuple[Item, ...]:
    """Generations that are trusted no more: nothing is asked of them, so they are none of `register`."""
    return tuple(
        Item(
            kind="authority",
            name=one.common_name,
            authority=one.authority,
            file=one.file.replace("authority-", "retired-"),
            subject=f"CN={one.common_name}",
            issuer=pair.issuer,
            serial=pair.certificate.serial_number,
            not_before=one.not_before,
            not_after=one.not_after,
            note="retired",
        )
        for authority in declarations.wanted(inventory)
        for one, pair in kept.generations(state, authority.authority, "retired").items()
    )


def _standing(signer: Pair) -> str:
    return "signs" if signer.key else "signs; its key is sealed" if signer.sealed else "signs; its key is not here"


def _certificate(request: Request, there: _Kept, uses: Uses, now: datetime) -> Item:
    declared: Certificate = there.declared.certificates[request.certificate]
    found = there.leaves.get(request.file)
    problem = unusable(request, found, there.signer, now) if there.signer else "its authority is missing"
    readers = uses[request.host, declared.path] if request.host and declared.path else ()
    item = Item(
        kind="certificate",
        name=request.certificate,
        authority=request.authority,
        host=request.host,
        path=declared.path,
        uses=readers,
        file=request.file,
        subject=request.subject,
        sans=request.sans,
        problem=problem or "",
        note="" if request.host else "the operator's",
    )
    return _read(item, found) if isinstance(found, Pair) else item


def _read(item: Item, pair: Pair) -> Item:
    """What a certificate itself says, instead of what was declared."""
    certificate = pair.certificate
    return replace(
        item,
        subject=", ".join(part.rfc4514_string() for part in reversed(list(certificate.subject))),
        sans=pair.sans,
        issuer=pair.issuer,
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def own_item(name: str, wanted: Own, host: Host) -> Item:
    """A certificate that a daemon asks for itself: its host says until when it is good, state/ has nothing of it."""
    return Item(
        kind="certificate",
        name=name,
        authority=wanted.authority,
        host=host.name,
        path=wanted.path,
        subject=wanted.subject(host),
        note="its own",
    )


def as_found(item: Item, der: bytes | None) -> Item:
    """What a certificate itself says, as its host gives it."""
    found = own.read(der)
    return _read(item, found) if found else item


def _on_hosts(there: Mapping[str, _Kept], inventory: Inventory, uses: Uses) -> Iterator[Item]:
    """The bundles, each of one or more authorities, and the keys with which a daemon signs."""
    bundles: dict[tuple[str, PurePosixPath], list[_Kept]] = {}
    for one in there.values():
        for place in one.declared.trusted_in:
            for host in inventory.on(place.role):
                bundles.setdefault((host.name, place.path), []).append(one)
        for place in one.declared.signs_in:
            yield from (_signing(one, host.name, place, uses) for host in inventory.on(place.role))
    for (name, path), several in bundles.items():
        generations = [generation for one in several if one.trust for generation in one.trust.trusted]
        yield Item(
            kind="bundle",
            name=", ".join(generation.common_name for generation in generations),
            authority=", ".join(one.declared.authority for one in several),
            host=name,
            path=path,
            uses=uses[name, path],
            not_after=min((generation.not_after for generation in generations), default=None),
        )


def _signing(there: _Kept, host: str, place: Place, uses: Uses) -> Item:
    name = there.declared.authority
    signer = there.trust.signer if there.trust else None
    return Item(
        kind="authority",
        name=signer.common_name if signer else name,
        authority=name,
        host=host,
        path=place.path,
        uses=uses[host, place.path],
        not_after=signer.not_after if signer else None,
        note="certificate and key",
    )


def _keys(name: str, state: State) -> Iterator[Item]:
    """Keys have no end: they are replaced when somebody wants them to be."""
    files = kept.keys(state, name)
    if not files:
        yield Item(kind="key", name=name, problem="missing")
    for file in files:
        problem = ""
        try:
            kept.encryption_key(state, file) if name == "encryption" else kept.private(state, file)
        except Mistake as mistake:
            problem = "; ".join(finding.what for finding in mistake.findings)
        yield Item(kind="key", name=name, file=file, problem=problem, note="in use" if file == files[-1] else "older: verifies and reads")
    for file in kept.upcoming(state, name):
        yield Item(kind="key", name=name, file=file, note="next: verifies and reads, and is not in use yet")


def embedded(state: State, file: str, certificate: Item) -> Item:
    """A kubeconfig in state/ that holds a certificate and its key, whole: whether it is the one that state/ has."""
    item = Item(kind="kubeconfig", name=file, authority=certificate.authority, file=file, note="the operator's")
    if not state.path(file).exists():
        return replace(item, problem="missing; `./inv push` writes it")
    data = _CLIENT.search(state.read(file).decode(errors="replace"))
    try:
        pair = Pair.parse(b64decode(data[1])) if data else None
    except ValueError:
        pair = None
    if pair is None:
        return replace(item, problem="no certificate can be read; `./inv push` writes it again")
    found = _read(item, pair)
    return (
        found if found.serial == certificate.serial else replace(found, problem="holds another certificate; `./inv push` writes it again")
    )
