"""Issues what is missing, about to expire, or no longer as declared; never replaces an authority by itself."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from hardway.desired import Secret
from hardway.errors import Finding, LockedError, Mistake
from hardway.inventory import Inventory
from hardway.pki import kept
from hardway.pki.credentials import Credentials, EncryptionKey, credentials, placeholders
from hardway.pki.declared import Authority, Declarations
from hardway.pki.pair import Pair, UnreadableError, leaf, new_key, private_pem, root
from hardway.pki.request import Request, requests
from hardway.state import State

__all__ = ["Credentials", "EncryptionKey", "Made", "credentials", "ensure", "placeholders", "short_lived"]


WINDOW = timedelta(days=30)  # before its end in which a certificate is issued again

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One thing that was issued, and why."""

    file: str  # its name in state/
    why: str

    def __str__(self) -> str:
        return f"{self.file.removeprefix('pki/')}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signer:
    """The generation that signs, its file, and every certificate found below its authority."""

    pair: Pair
    file: str
    leaves: Mapping[str, Pair | UnreadableError]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """A certificate that has to be issued, and why."""

    request: Request
    why: str
    waits: bool = False  # it can be done without for now, should the authority's key be away


def ensure(  # noqa: PLR0913 - what is declared, for whom, where, when; and who helps
    declarations: Declarations,
    inventory: Inventory,
    state: State,
    now: datetime,
    within: timedelta = WINDOW,
    chosen: Callable[[Request], bool] = lambda _: False,
    *,
    unlock: kept.Unlock = kept.locked,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Made, ...]:
    """Make what has to be made, for all hosts, and the certificates that were chosen; a second run makes nothing.

    What cannot be repaired by issuing, such as a damaged authority, stops the run before anything is written. A key that is away is missed
    only if something has to be issued with it that cannot wait.
    """
    wanted = requests(declarations, inventory)
    authorities = declarations.wanted(inventory)
    with state.locked():
        findings: list[Finding] = []
        signers = _each(authorities, lambda one: (one.authority, _signer(one, state, now)), findings)
        missing = _each(declarations.keys, lambda name: (name, _is_missing(name, state)), findings)
        due = {name: _due(wanted, name, signer, now, within, chosen) for name, signer in signers.items() if signer}
        signers |= _each(due, lambda name: (name, _at_hand(signers[name], due[name], state, unlock, tell)), findings)
        if findings:
            raise Mistake(*findings)
        return (
            *_keys(missing, inventory, state, now),  # before the authorities: with one of those there, a lost key is told
            *_authorities(authorities, signers, inventory, state, now),
            *_leaves(wanted, signers, due, state, now),
        )


def begin(declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> None:
    """Make the keys without a certificate where no authority is yet; whoever calls it holds the lock."""
    if not state.glob("pki/**/*"):
        tuple(_keys(dict.fromkeys(declarations.keys, True), inventory, state, now))


def short_lived(  # noqa: PLR0913, PLR0917 - whose, by whom, until when
    state: State,
    authority: str,
    common_name: str,
    organization: str | None,
    minutes: int,
    now: datetime,
    unlock: kept.Unlock = kept.locked,
    *,
    newest: bool = False,
) -> Secret:
    """A client certificate with its key that is never written: for one errand, such as the first administrator's binding.

    By the generation that signs; or by the newest one that is trusted, so that it is good beyond a rotation that is under way.
    """
    found = kept.generations(state, authority)
    if not found:
        raise Mistake.at(state.where(f"pki/{authority}"), "no authority is here", kept.RESTORE)
    trust = kept.trust(found, kept.leaves(state, authority).values())
    generation = trust.trusted[-1] if newest else trust.signer
    signer = kept.opened(state, generation.file, found[generation], f"a certificate of {common_name}", unlock)
    request = Request(
        authority=authority, certificate="short-lived", common_name=common_name, organization=organization, usages=("client",)
    )
    return Secret(leaf(request, signer, now=now, lifetime=timedelta(minutes=minutes)).pem)


def _each(several: Iterable[S], ask: Callable[[S], tuple[str, T]], findings: list[Finding]) -> dict[str, T]:
    """Ask for each, and keep what is wrong until all were asked."""
    answers: dict[str, T] = {}
    for one in several:
        try:
            name, answers_it = ask(one)
            answers[name] = answers_it
        except Mistake as mistake:
            findings.extend(mistake.findings)
    return answers


def _signer(declared: Authority, state: State, now: datetime) -> _Signer | None:
    authority = declared.authority
    found = kept.generations(state, authority)
    leaves = kept.leaves(state, authority)
    if not found:
        if leaves:
            where, what = state.where(f"pki/{authority}"), "certificates are here, but not the authority that signed them"
            raise Mistake.at(where, what, f"restore pki/{authority}/authority-*.pem from a backup of state/")
        return None
    generation = kept.trust(found, leaves.values()).signer
    where, pair = state.where(generation.file), found[generation]
    if declared.signs_in and pair.key is None:
        what, step = ("sealed", "`./inv state.unseal`") if pair.sealed else ("missing", kept.RESTORE)
        raise Mistake.at(where, f"authority {authority}: a daemon signs with its key, which is {what}", step)
    if generation.not_after <= now:
        what = f"authority {authority} has expired on {generation.not_after:%Y-%m-%d}"
        raise Mistake.at(where, what, f"`./inv rotate.authority {authority}` replaces all that have, at once")
    return _Signer(pair=pair, file=generation.file, leaves=leaves)


def _due(
    wanted: Iterable[Request], authority: str, signer: _Signer, now: datetime, within: timedelta, chosen: Callable[[Request], bool]
) -> tuple[_Due, ...]:
    """What an authority has to issue."""
    asked = (_why(request, signer, now, within, chosen) for request in wanted if request.authority == authority)
    return tuple(due for due in asked if due)


def _at_hand(
    signer: _Signer | None, due: tuple[_Due, ...], state: State, unlock: kept.Unlock, tell: Callable[[str], None]
) -> _Signer | None:
    """A signer with its key, if it has to issue anything; without it, if all of that can wait."""
    if signer is None or not due:
        return signer
    more = f" and {len(due) - 1} more" if len(due) > 1 else ""
    first = min(due, key=lambda one: one.waits)
    what = f"{first.request.file.removeprefix('pki/')} ({first.why}){more}"
    try:
        return replace(signer, pair=kept.opened(state, signer.file, signer.pair, what, unlock))
    except Mistake as mistake:
        away = isinstance(mistake, LockedError) or not signer.pair.sealed
        if not (away and all(one.waits for one in due)):
            raise
        tell(f"not issued for now, as the key of authority {first.request.authority} is not at hand: {what}")
        return signer


def _authorities(
    authorities: Iterable[Authority], signers: dict[str, _Signer | None], inventory: Inventory, state: State, now: datetime
) -> Iterator[Made]:
    for authority in authorities:
        name = authority.authority
        if signers[name] is None:
            generation = kept.next_name((), now)
            pair = root(f"{authority.common_name}-{generation}", keys=inventory.keys, days=authority.days, now=now)
            file = f"pki/{name}/authority-{generation}.pem"
            state.write(file, pair.pem)
            signers[name] = _Signer(pair=pair, file=file, leaves={})
            yield Made(file=file, why="missing")


def _is_missing(name: str, state: State) -> bool:
    """Whether keys without a certificate have yet to be made. One that was lost is not: what it signed or encrypted would be lost too."""
    files = kept.keys(state, name)
    if not files and state.glob("pki/*/authority-*.pem"):
        where, what = state.where(f"pki/{name}"), "the key is missing, and the cluster's authorities are not"
        step = f"restore pki/{name} from a backup of state/; if no cluster ever ran with it, remove {state.where('pki')}"
        raise Mistake.at(where, what, step)
    for file in files:
        kept.encryption_key(state, file) if name == "encryption" else kept.private(state, file)
    return not files


def _keys(missing: Mapping[str, bool], inventory: Inventory, state: State, now: datetime) -> Iterator[Made]:
    for name in (name for name, is_missing in missing.items() if is_missing):
        file = f"pki/{name}/key-{kept.next_name((), now)}"
        if name == "encryption":
            state.write(file, base64.b64encode(secrets.token_bytes(32)))
        else:
            file += ".pem"
            state.write(file, private_pem(new_key(inventory.keys)))
        yield Made(file=file, why="missing")


def _leaves(
    wanted: Iterable[Request],
    signers: Mapping[str, _Signer | None],
    due: Mapping[str, tuple[_Due, ...]],
    state: State,
    now: datetime,
) -> Iterator[Made]:
    reasons = {one.request: one.why for several in due.values() for one in several}
    for request in wanted:
        signer = signers[request.authority]
        if signer is None:
            raise AssertionError(request.authority)  # every authority wanted has been made by now
        why = reasons.get(request) if request.authority in due else "missing"
        if why and signer.pair.key:
            state.write(request.file, leaf(request, signer.pair, now=now).pem)
            yield Made(file=request.file, why=why)


def _why(request: Request, signer: _Signer, now: datetime, within: timedelta, chosen: Callable[[Request], bool]) -> _Due | None:
    """Why a certificate has to be issued; None if it need not be."""
    found = signer.leaves.get(request.file)
    if why := unusable(request, found, signer.pair, now):
        # The operator's own does its work as long as it is good: `state.recover` leaves one that another authority has signed.
        good = isinstance(found, Pair) and found.certificate.not_valid_before_utc <= now < found.certificate.not_valid_after_utc
        return _Due(request=request, why=why, waits=good and request.host is None)
    if found is None or isinstance(found, UnreadableError):
        raise AssertionError(request.file)  # unusable says so
    until = found.certificate.not_valid_after_utc
    if found.ends(now, within) and until < signer.pair.certificate.not_valid_after_utc:  # else a new one would end no later
        return _Due(request=request, why="expired" if until <= now else f"expires on {until:%Y-%m-%d}", waits=until > now)
    return _Due(request=request, why="asked for") if chosen(request) else None


def unusable(request: Request, found: Pair | UnreadableError | None, signer: Pair, now: datetime) -> str | None:
    """Why a certificate is not the one that was declared, however long it is good for; None if it is."""
    if found is None:
        return "missing"
    if isinstance(found, UnreadableError):
        return str(found)
    if not signer.signed(found):
        other = found.issuer if found.issuer != signer.common_name else f"another {found.issuer}"
        return f"signed by {other}, not by {signer.common_name}"
    if found.certificate.not_valid_before_utc > now:
        return f"not valid before {found.certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return found.differs(request)
