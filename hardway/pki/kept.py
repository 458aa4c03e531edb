"""What state/ keeps of the PKI, and under which names.

pki/<authority>/authority-<generation>.pem      certificate and key of a CA; behind them the certificates above it, if it is no root
pki/<authority>/authority-<generation>.key      its key, if that is kept apart: often a link to where it is only at times
pki/<authority>/retired-<generation>.pem, .key   of one that is trusted no more; with its key until that is seen to be so everywhere
pki/<authority>/<certificate>@<host>.pem        certificate and key of a host; without @<host> the operator's
pki/<key pair>/key-<generation>.pem             a private key; the newest signs
pki/<key pair>/next-<generation>.pem            one that will sign, and verifies already
pki/<key pair>/retired-<generation>.pem         one that is known no more; empty once that is seen to be so everywhere
pki/encryption/key-, next-, retired-<generation>   the same, of 32 bytes in base64; the newest writes, all but the retired read
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import PurePosixPath
from string import ascii_lowercase
from typing import Literal

from cryptography import x509

from hardway.errors import Finding, LockedError, Mistake
from hardway.pki.pair import Key, Pair, UnreadableError, private_key
from hardway.pki.trust import Generation, Trust, age
from hardway.state import State

RESTORE = "restore it from a backup of state/"

Unlock = Callable[[str], bytes]  # what is locked -> its passphrase


def locked(what: str) -> bytes:
    """An `Unlock` that has no passphrase."""
    raise LockedError(Finding(where=what, what="it is sealed, and no passphrase is at hand"))


def generations(state: State, authority: str, kind: Literal["authority", "retired"] = "authority") -> dict[Generation, Pair]:
    """Every generation of an authority that is there, whole or without its key; or of those that are trusted no more."""
    found = {}
    for file in state.glob(f"pki/{authority}/{kind}-*.pem"):
        where = state.where(file)
        try:
            pair = Pair.parse(state.read(file))
            if pair.key is None and pair.sealed is None and state.path(apart(file)).exists():
                pair = Pair.parse(pair.bundle.encode() + state.read(apart(file)))
            extension = pair.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        except (UnreadableError, x509.ExtensionNotFound) as error:
            what = str(error) if isinstance(error, UnreadableError) else "it is no certificate of an authority"
            raise Mistake.at(where, f"authority {authority}: {what}", RESTORE) from None
        if not extension.value.ca:
            raise Mistake.at(where, f"authority {authority}: it is no certificate of an authority", RESTORE)
        found[generation(authority, PurePosixPath(file).stem.removeprefix(f"{kind}-"), pair)] = pair
    return found


def generation(authority: str, name: str, pair: Pair) -> Generation:
    """What is known of an authority's certificate."""
    return Generation(
        authority=authority,
        name=name,
        common_name=pair.common_name,
        ski=pair.ski.hex(),
        not_before=pair.certificate.not_valid_before_utc,
        not_after=pair.certificate.not_valid_after_utc,
        certificate=pair.certificate_pem.decode(),
        above=pair.bundle.removeprefix(pair.certificate_pem.decode()),
    )


def apart(file: str) -> str:
    """Where the key of an authority is looked for, if it is not in the file of its certificate."""
    return file.removesuffix(".pem") + ".key"


def opened(state: State, file: str, pair: Pair, wanted: str, unlock: Unlock) -> Pair:
    """An authority with its key, for what is wanted of it; a Mistake that says which key that is, and where it was looked for."""
    authority, where = PurePosixPath(file).parent.name, state.where(file)
    if pair.key:
        return pair
    if pair.sealed is None:
        beside = PurePosixPath(apart(file)).name
        what = f"authority {authority}: its key is missing, neither here nor in {beside} beside it, and wanted for {wanted}"
        raise Mistake.at(where, what, f"bring that key for as long as it is needed, or {RESTORE}")
    try:
        return pair.opened(unlock(f"the key of authority {authority}"))
    except UnreadableError as unreadable:
        raise Mistake.at(where, f"authority {authority}: {unreadable}", "try again with the right one") from None


def leaves(state: State, authority: str) -> dict[str, Pair | UnreadableError]:
    """Every certificate of an authority by its file, or why it cannot be used."""
    files = state.glob(f"pki/{authority}/*.pem")
    return {file: pair(state, file) for file in files if not PurePosixPath(file).name.startswith(("authority-", "retired-"))}


def pair(state: State, file: str) -> Pair | UnreadableError:
    """A certificate with its key, or why it is not both of them."""
    try:
        found = Pair.parse(state.read(file))
    except UnreadableError as unreadable:
        return unreadable
    return found if found.key else UnreadableError("its key is missing")


def trust(found: Iterable[Generation], signed: Iterable[Pair | UnreadableError], retired: Iterable[Generation] = ()) -> Trust:
    """Derive the trust of an authority from what is there."""
    derived = Trust.derive(found, filter(None, (authority_key(one) for one in signed if isinstance(one, Pair))))
    return replace(derived, retired=tuple(retired))


def authority_key(signed: Pair) -> str | None:
    """The key identifier of whoever signed a certificate."""
    try:
        identifier = signed.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    return identifier.hex() if identifier else None


def keys(state: State, name: str) -> tuple[str, ...]:
    """The files of a key pair or of the encryption keys, oldest first."""
    return tuple(sorted(state.glob(f"pki/{name}/key-*"), key=lambda file: age(PurePosixPath(file).stem.removeprefix("key-"))))


def upcoming(state: State, name: str) -> tuple[str, ...]:
    """The files of keys that do not sign or write yet."""
    return state.glob(f"pki/{name}/next-*")


def next_name(taken: Iterable[str], now: datetime) -> str:
    """The name of a new generation, the year and a letter: younger than any that was used, for names tell which one is the newest."""
    newest = max(map(age, taken), default=("", 0, ""))
    year = max(f"{now.year}", newest[0])
    return next(name for name in (f"{year}{letters}" for letters in _letters()) if age(name) > newest)


def _letters() -> Iterator[str]:
    for times in count(1):
        yield from (letter * times for letter in ascii_lowercase)


def private(state: State, file: str) -> Key:
    """A private key that stands alone, such as the one that signs ServiceAccount tokens."""
    try:
        return private_key(state.read(file))
    except UnreadableError as unreadable:
        raise Mistake.at(state.where(file), str(unreadable), RESTORE) from None


def encryption_key(state: State, file: str) -> str:
    """A key of encryption at rest, in base64 as EncryptionConfiguration takes it."""
    data = state.read(file).strip()
    try:
        size = len(base64.b64decode(data, validate=True))
    except ValueError:
        size = 0
    if size != 32:
        raise Mistake.at(state.where(file), "is no key of 32 bytes in base64", RESTORE)
    return data.decode()
