"""The authorities of a cluster, found again in the bundles and the signing keys that its hosts have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.keeping.reading import Read, on, same
from hardway.pki import kept
from hardway.pki.declared import Authority, Declarations, Place
from hardway.pki.pair import Certificate, Pair, UnreadableError, certificates
from hardway.pki.trust import Generation, age


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """One authority as the hosts know it."""

    generations: Mapping[Generation, Pair]

    @property
    def signer(self) -> Pair:
        """The newest generation."""
        return self.generations[max(self.generations, key=lambda one: age(one.name))]


def authorities(declarations: Declarations, inventory: Inventory, read: Read) -> dict[str, Recovered]:
    """Every authority that some host trusts."""
    wanted = declarations.wanted(inventory)
    found: dict[str, Recovered] = {}
    # Those with a bundle of their own come first: what is left of a shared one is the others'.
    for one in sorted(wanted, key=lambda one: not _alone(one, wanted)):
        certificates = _trusted(one, wanted, inventory, read, found)
        pairs = _named(one, tuple(_grouped(certificates)), _signing(one, inventory, read))
        if pairs:
            found[one.authority] = Recovered(generations=pairs)
    return {one.authority: found[one.authority] for one in wanted if one.authority in found}


def _alone(one: Authority, wanted: Iterable[Authority]) -> tuple[Place, ...]:
    """Its bundles that hold no other authority."""
    others = {(place.role, place.path) for other in wanted if other is not one for place in other.trusted_in}
    return tuple(place for place in one.trusted_in if (place.role, place.path) not in others)


def _trusted(
    one: Authority, wanted: Iterable[Authority], inventory: Inventory, read: Read, found: Mapping[str, Recovered]
) -> tuple[Certificate, ...]:
    """Its certificates, as all of its bundles have them; those above them too, where a bundle has these."""
    known = {pair.certificate for other in found.values() for pair in other.generations.values()}

    def ours(places: Iterable[Place]) -> dict[str, tuple[Certificate, ...]]:
        bundles = on(inventory, read, places)
        return {where: tuple(one for one in _parsed(where, text) if one not in known) for where, text in bundles.items()}

    places = _alone(one, wanted) or one.trusted_in
    what = f"authority {one.authority}"
    bare = ours(place for place in places if not place.up_to_root)
    chained = ours(place for place in places if place.up_to_root)
    below = {where: tuple(pair.certificate for pair in _grouped(certificates)) for where, certificates in chained.items()}
    same(what, bare | below)
    return same(what, chained) or same(what, bare) or ()


def _parsed(where: str, text: str) -> tuple[Certificate, ...]:
    if not (found := certificates(text)):
        raise Mistake.at(where, "it is damaged: no certificates can be read", "take this host out of the inventory for now")
    return found


def _grouped(certificates: Iterable[Certificate]) -> Iterator[Pair]:
    """Generations, each with the certificates above it: whoever signed the one before belongs to it."""
    group: list[Certificate] = []
    for certificate in certificates:
        last = Pair(certificate=group[-1]) if group else None
        if last and last.certificate.issuer != last.certificate.subject and Pair(certificate=certificate).signed(last):
            group.append(certificate)
            continue
        if group:
            yield Pair(certificate=group[0], chain=tuple(group[1:]))
        group = [certificate]
    if group:
        yield Pair(certificate=group[0], chain=tuple(group[1:]))


def _signing(one: Authority, inventory: Inventory, read: Read) -> Pair | None:
    """The pair with which a daemon signs."""
    text = same(f"the key of authority {one.authority}", on(inventory, read, one.signs_in))
    try:
        return Pair.parse(text.encode()) if text else None
    except UnreadableError as unreadable:
        raise Mistake.at(f"authority {one.authority}", f"what its hosts sign with is damaged: {unreadable}") from None


def _named(one: Authority, pairs: Iterable[Pair], signing: Pair | None) -> dict[Generation, Pair]:
    """Generations by the names that their common names end in; those from elsewhere are given one, oldest first."""
    found: dict[Generation, Pair] = {}
    for pair in pairs:
        match = re.fullmatch(rf"{re.escape(one.common_name)}-([0-9]{{4}}[a-z]+)", pair.common_name)
        taken = [generation.name for generation in found]
        name = match[1] if match and match[1] not in taken else kept.next_name(taken, pair.certificate.not_valid_before_utc)
        has_key = signing and signing.key and signing.certificate == pair.certificate
        whole = pair.with_key(signing.key) if has_key and signing and signing.key else pair
        found[kept.generation(one.authority, name, whole)] = whole
    return found
