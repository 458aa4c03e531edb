"""The keys of the authorities under a passphrase, or apart from state/; and authorities that come from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import kept
from hardway.pki.declared import Authority, Declarations
from hardway.pki.issue import begin
from hardway.pki.pair import Pair, UnreadableError, private_pem
from hardway.state import State

AlteredError = InvalidTag  # of what a cipher is to open: another passphrase, or not what was sealed


def cipher(passphrase: bytes, salt: bytes, cost: int) -> ChaCha20Poly1305:
    """What seals by a passphrase; each guess at it costs 1 KiB of memory times `cost`."""
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase))


def seal(declarations: Declarations, state: State, passphrase: bytes, apart: Path | None = None) -> tuple[str, ...]:
    """Encrypt the keys of the authorities; with `apart` they go there, and links say where they are. What was done, line by line."""
    with state.locked():
        return tuple(_sealed(declarations, state, passphrase, apart))


def _sealed(declarations: Declarations, state: State, passphrase: bytes, apart: Path | None) -> Iterator[str]:
    for declared in declarations.authorities:
        for generation, pair in kept.generations(state, declared.authority).items():
            if declared.signs_in:
                yield f"{generation.file}: stays as it is: a daemon signs with it, and its hosts have it too"
            elif pair.key and (secret := pair.closed(passphrase).sealed):
                yield _put(state, generation.file, pair, secret, apart)
            elif pair.sealed and apart and not state.path(kept.apart(generation.file)).exists():
                yield _put(state, generation.file, pair, pair.sealed, apart)
            else:
                yield f"{generation.file}: {'is sealed already' if pair.sealed else 'has no key here'}"


def _put(state: State, file: str, pair: Pair, secret: bytes, apart: Path | None) -> str:
    if apart is None:
        key = kept.apart(file)
        if state.path(key).exists():
            state.write(key, secret)  # where it was
        else:
            state.write(file, pair.bundle.encode() + secret)
        return f"{file}: sealed"
    there = apart.absolute() / f"{state.root.name}-{PurePosixPath(file).parent.name}-{PurePosixPath(kept.apart(file)).name}"
    try:
        descriptor = os.open(there, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(secret)
            out.flush()
            os.fsync(out.fileno())
        if there.read_bytes() != secret:
            raise Mistake.at(str(there), "what was written there is not what can be read", "take another device")
        state.link(kept.apart(file), there)
    except OSError as error:
        raise Mistake.at(str(there), f"cannot be written: {error.strerror}", "name a directory of your own with no such file") from error
    state.write(file, pair.bundle.encode())  # last: until now the key was in both places
    return f"{file}: its key is sealed, and in {there}"


def unseal(declarations: Declarations, state: State, unlock: kept.Unlock) -> tuple[str, ...]:
    """Put the keys of the authorities back into state/ as they were before."""
    with state.locked():
        opened = [
            (generation, kept.opened(state, generation.file, pair, "unsealing it", unlock))
            for declared in declarations.authorities
            for generation, pair in kept.generations(state, declared.authority).items()
            if pair.key is None or state.path(kept.apart(generation.file)).exists()
        ]
        for generation, pair in opened:
            if pair.key:
                state.write(generation.file, pair.bundle.encode() + private_pem(pair.key))
                state.remove(kept.apart(generation.file))
    return tuple(f"{generation.file}: its key is there, and open" for generation, _ in opened)


def adopt(declarations: Declarations, inventory: Inventory, state: State, name: str, file: Path, now: datetime) -> str:
    """Take an authority from elsewhere, a root or one below another, before any of its own is there; the name of its file in state/."""
    declared = next((one for one in declarations.wanted(inventory) if one.authority == name), None)
    if declared is None:
        known = ", ".join(one.authority for one in declarations.wanted(inventory))
        raise Mistake.at(name, "is no authority of this cluster", f"it has {known}")
    pair = _fit(declared, file, now)
    with state.locked():
        if state.glob(f"pki/{name}/*"):
            what = f"authority {name} is there already: to replace it is more than to put another file there"
            raise Mistake.at(str(state.path(f"pki/{name}")), what, "take your own authority before the first push")
        begin(declarations, inventory, state, now)
        target = f"pki/{name}/authority-{kept.next_name((), now)}.pem"
        state.write(target, pair.bundle.encode() + (private_pem(pair.key) if pair.key else pair.sealed or b""))
    return target


def _fit(declared: Authority, file: Path, now: datetime) -> Pair:
    """A pair that can be an authority of a cluster."""
    where = str(file)
    try:
        pair = Pair.parse(file.read_bytes())
    except OSError as error:
        raise Mistake.at(where, f"cannot be read: {error.strerror}") from error
    except UnreadableError as unreadable:
        step = "the file holds its certificate, those above it in order, and its key"
        raise Mistake.at(where, str(unreadable), step) from None
    lowest, *above = (pair.certificate, *pair.chain)
    if why := next(filter(None, (_no_authority(one, now) for one in (lowest, *above))), None):
        raise Mistake.at(where, why, "take the certificate of an authority")
    if pair.key is None and (pair.sealed is None or declared.signs_in):
        raise Mistake.at(
            where, "its key is not in it, or sealed" if declared.signs_in else "its key is not in it", "put it behind the certificate"
        )
    return pair


def _no_authority(certificate: x509.Certificate, now: datetime) -> str | None:
    """Why a certificate cannot be an authority's."""
    name = certificate.subject.rfc4514_string()
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return f"{name} is no authority: basicConstraints say so"
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as missing:
        return None if missing.oid == x509.KeyUsage.oid else f"{name} is no authority: it has no basicConstraints"
    if not usage.key_cert_sign:
        return f"{name} may not sign certificates: keyUsage says so"
    return f"{name} has expired" if certificate.not_valid_after_utc <= now else None
