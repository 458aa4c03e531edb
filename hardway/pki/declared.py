"""What certs/ declares: authorities, certificates, key pairs, and who reads each file. Never a key."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from hardway.desired import Pickup
from hardway.errors import Finding, Mistake
from hardway.inventory import Inventory, Role
from hardway.inventory.document import Document

FIRST_LINE = "# A declaration: what is issued, and who reads it. Keys and certificates are in state/, never here."

Usage = Literal["server", "client"]
Wrong = tuple[tuple[str | int, ...], str]  # the field, and what is wrong with it
KubeletTls = Literal["issued", "bootstrap"]
San = Literal["host.name", "host.address", "host.sans", "loopback", "endpoint", "service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate for each host of a role, or one that stays with the operator."""

    role: Literal["controller", "worker", "loadbalancer", "operator"]
    subject: str  # CN=..., O=...; {host.name} and {cluster} are filled in
    usages: tuple[Usage, ...]
    sans: tuple[San, ...] = ()
    path: PurePosixPath | None = None  # certificate and key, one file
    owner: str = "root:root"
    read_by: Mapping[str, Pickup] = field(default_factory=dict)
    days: int = 365
    kubelet_tls: KubeletTls | None = None  # only where the inventory says so of kubelet.tls


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file on each host of a role that holds a bundle or a key."""

    role: Role
    path: PurePosixPath
    read_by: Mapping[str, Pickup]
    owner: str = "root:root"
    kubelet_tls: KubeletTls | None = None
    up_to_root: bool = False  # with what is above the authority, if that is no root: else its reader trusts nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA: what it signs, where it is trusted, and where, if anywhere, its key goes."""

    authority: str
    common_name: str  # each generation adds its own name
    days: int = 3650
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    trusted_in: tuple[Place, ...] = ()
    signs_in: tuple[Place, ...] = ()  # a daemon signs with it: certificate and key, one generation

    def wanted(self, inventory: Inventory) -> bool:
        """Whether this cluster has it: one that a daemon signs with only if a daemon signs."""
        return not self.signs_in or inventory.csr_signer == "controller-manager"

    def narrowed(self, inventory: Inventory) -> Authority:
        """Without what this cluster does not want of it."""

        def wanted(one: Certificate | Place) -> bool:
            return one.kubelet_tls in {None, inventory.kubelet.tls}

        return replace(
            self,
            certificates={name: one for name, one in self.certificates.items() if wanted(one)},
            trusted_in=tuple(filter(wanted, self.trusted_in)),
            signs_in=tuple(filter(wanted, self.signs_in)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Keys without a certificate: the newest signs, all of them verify."""

    key_pair: str
    private_in: tuple[Place, ...]
    public_in: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """The keys of encryption at rest; a component puts them into its own configuration."""

    encryption: Literal["secretbox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """All of certs/."""

    authorities: tuple[Authority, ...]
    key_pairs: tuple[KeyPair, ...] = ()
    encryption: Encryption | None = None

    def wanted(self, inventory: Inventory) -> tuple[Authority, ...]:
        """The authorities that a cluster has, each with what it wants of it."""
        return tuple(one.narrowed(inventory) for one in self.authorities if one.wanted(inventory))

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the keys without a certificate."""
        return (*(pair.key_pair for pair in self.key_pairs), *(("encryption",) if self.encryption else ()))


_KINDS: Mapping[str, type[Authority | KeyPair | Encryption]] = {"authority": Authority, "key_pair": KeyPair, "encryption": Encryption}
_KIND = re.compile(r"^(authority|key_pair|encryption)\s*:", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_OWNER = re.compile(r"[a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*")
_READER = re.compile(r"[A-Za-z0-9_.@-]+")
_SUBJECT = re.compile(r"CN=[^,=]+(,\s*O=[^,=]+)?")
_PLACEHOLDER = re.compile(r"\{([^}]*)\}?")
_FILLED_IN = frozenset({"host.name", "cluster"})


def load(directory: Path) -> Declarations:
    """Read every declaration of a directory; all that is wrong is told at once."""
    findings: list[Finding] = []
    found: list[Authority | KeyPair | Encryption] = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        try:
            _refuse_key(path)
            if path.suffix == ".yaml":
                found.append(_read(path))
        except Mistake as mistake:
            findings.extend(mistake.findings)
    authorities = tuple(one for one in found if isinstance(one, Authority))
    findings.extend(_clashes(directory, authorities))
    if not found and not findings:
        findings.append(Finding(where=str(directory), what="no declaration here", next_step="restore certs/ from the repository"))
    if findings:
        raise Mistake(*findings)
    return Declarations(
        authorities=authorities,
        key_pairs=tuple(one for one in found if isinstance(one, KeyPair)),
        encryption=next((one for one in found if isinstance(one, Encryption)), None),
    )


def _refuse_key(path: Path) -> None:
    """What is refused is not parsed: no message about it can show a part of it."""
    if b"-----BEGIN" in path.read_bytes():
        step = "move it out of certs/, and replace that key if the file was ever committed"
        raise Mistake.at(str(path), "holds a key or certificate", step)


def _read(path: Path) -> Authority | KeyPair | Encryption:
    text = path.read_text(errors="replace")
    kind = _KIND.search(text)
    if kind is None:
        raise Mistake.at(str(path), "declares nothing", f"begin with one of {', '.join(_KINDS)}")
    document = Document.open(path)
    one = document.into(_KINDS[kind[1]])
    findings = [Finding(where=document.where(*at), what=what) for at, what in (*_wrong_name(one, kind[1], path.stem), *_wrong_content(one))]
    if text.partition("\n")[0].rstrip() != FIRST_LINE:
        what = "does not say that it is a declaration"
        findings.insert(0, Finding(where=f"{path}:1", what=what, next_step=f"let its first line be: {FIRST_LINE}"))
    if findings:
        raise Mistake(*findings)
    return one


def _wrong_name(one: Authority | KeyPair | Encryption, key: str, stem: str) -> Iterator[Wrong]:
    """A file is found by what it declares, and so is its directory in state/."""
    name = one.authority if isinstance(one, Authority) else one.key_pair if isinstance(one, KeyPair) else key
    if name != stem or not _NAME.fullmatch(name):
        yield (key,), f"{name!r} is not the name of the file, {stem}"


def _wrong_content(one: Authority | KeyPair | Encryption) -> Iterator[Wrong]:
    """What a file says wrong beyond the types of its fields."""
    places: dict[str, tuple[Place, ...]] = {}
    if isinstance(one, Authority):
        places = {"trusted_in": one.trusted_in, "signs_in": one.signs_in}
        if one.days < 1:
            yield ("days",), "must be one or more"
        for called, certificate in one.certificates.items():
            yield from ((("certificates", called), what) for what in _wrong_certificate(called, certificate, one))
    elif isinstance(one, KeyPair):
        places = {"private_in": one.private_in, "public_in": one.public_in}
    for field_name, listed in places.items():
        for index, place in enumerate(listed):
            yield from (((field_name, index), what) for what in _wrong_file(place.path, place.owner, place.read_by))


def _wrong_certificate(called: str, certificate: Certificate, authority: Authority) -> Iterator[str]:
    operator = certificate.role == "operator"
    known = _FILLED_IN - {"host.name"} if operator else _FILLED_IN
    for placeholder in set(_PLACEHOLDER.findall(certificate.subject)) - known:
        yield f"nothing is known to fill in {{{placeholder}}}; known: {', '.join(sorted(known))}"
    rules = (
        (not _NAME.fullmatch(called), "a name is small letters, digits and single dashes"),
        (called.startswith("authority-"), "a name that begins with authority- is an authority's own"),
        (not _SUBJECT.fullmatch(certificate.subject), "subject is not of the form CN=name or CN=name, O=group"),
        (not certificate.usages, "usages is empty; say server, client or both"),
        ("server" in certificate.usages and not certificate.sans, "a server certificate needs sans"),
        (not 1 <= certificate.days <= authority.days, f"days must be 1 to {authority.days}, the authority's own"),
        (operator and bool(certificate.path or certificate.read_by), "the operator's stays in state/: no path, no read_by"),
        (not operator and certificate.path is None, "path is missing"),
    )
    yield from (what for broken, what in rules if broken)
    if certificate.path:
        yield from _wrong_file(certificate.path, certificate.owner, certificate.read_by)


def _wrong_file(path: PurePosixPath, owner: str, read_by: Mapping[str, Pickup]) -> Iterator[str]:
    if not path.is_absolute() or ".." in path.parts:
        yield f"path {str(path)!r} is not absolute"
    if not _OWNER.fullmatch(owner):
        yield f"owner {owner!r} is not user:group"
    if not read_by:
        yield "read_by is empty: nobody reads this file"
    yield from (f"reader {reader!r} is neither a unit nor a program" for reader in read_by if not _READER.fullmatch(reader))


def _clashes(directory: Path, authorities: tuple[Authority, ...]) -> Iterator[Finding]:
    names = Counter(name for authority in authorities for name in authority.certificates)
    for name in sorted(name for name, times in names.items() if times > 1):
        yield Finding(where=str(directory), what=f"certificate {name} is declared twice", next_step="give one of them another name")
    bundles = {place.path for authority in authorities for place in authority.trusted_in}
    alone = [place.path for authority in authorities for place in authority.signs_in]
    alone += [one.path for authority in authorities for one in authority.certificates.values() if one.path]
    for path in sorted(path for path, times in Counter(alone).items() if times > 1 or path in bundles):
        yield Finding(where=str(directory), what=f"{path} is declared twice", next_step="only bundles of several authorities share a file")
