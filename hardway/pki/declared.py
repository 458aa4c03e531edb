"""What certs/ declares: authorities, certificates, key pairs, and who reads each file. Never a key."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from hardway.desired import Pickup
from hardway.errors import Finding, Mistake
from hardway.inventory import Inventory, Role
from hardway.inventory.document import Document

FIRST_LINE = "# A declaration: what is issued, and who reads it. Keys and certificates are in state/, never here."

Usage = Literal["server", "client"]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file on each host of a role that holds a bundle or a key."""

    role: Role
    path: PurePosixPath
    read_by: Mapping[str, Pickup]
    owner: str = "root:root"


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
    findings = [finding for path in sorted(directory.rglob("*")) if path.is_file() for finding in _refused(path)]
    found: list[tuple[Document, Authority | KeyPair | Encryption]] = []
    for path in sorted(directory.glob("*.yaml")):
        kind = _KIND.search(path.read_text(errors="replace"))
        if kind is None:
            findings.append(Finding(where=str(path), what="declares nothing", next_step=f"begin with one of {', '.join(_KINDS)}"))
            continue
        try:
            document = Document.open(path)
            found.append((document, document.into(_KINDS[kind[1]])))
        except Mistake as mistake:
            findings.extend(mistake.findings)
    findings.extend(finding for document, one in found for finding in _wrong(document, Path(document.name).stem, one))
    authorities = tuple(one for _, one in found if isinstance(one, Authority))
    encryption = [one for _, one in found if isinstance(one, Encryption)]
    findings.extend(_clashes(directory, authorities))
    if not found and not findings:
        findings.append(Finding(where=str(directory), what="no declaration here", next_step="restore certs/ from the repository"))
    if len(encryption) > 1:
        findings.append(Finding(where=str(directory), what="encryption is declared twice", next_step="keep one of the files"))
    if findings:
        raise Mistake(*findings)
    return Declarations(
        authorities=authorities,
        key_pairs=tuple(one for _, one in found if isinstance(one, KeyPair)),
        encryption=encryption[0] if encryption else None,
    )


def _refused(path: Path) -> Iterator[Finding]:
    data = path.read_bytes()
    if b"-----BEGIN" in data:
        what, step = "holds a key or certificate", "move it out of certs/, and replace that key if the file was ever committed"
        yield Finding(where=str(path), what=what, next_step=step)
    elif path.suffix == ".yaml" and data.split(b"\n", 1)[0].rstrip() != FIRST_LINE.encode():
        yield Finding(where=f"{path}:1", what="does not say that it is a declaration", next_step=f"let its first line be: {FIRST_LINE}")


def _wrong(document: Document, stem: str, one: Authority | KeyPair | Encryption) -> Iterator[Finding]:
    """What one file says wrong beyond the types of its fields."""

    def wrong(*at: str | int, what: str, next_step: str = "") -> Finding:
        return Finding(where=document.where(*at), what=what, next_step=next_step)

    if isinstance(one, Encryption):
        return
    name = one.authority if isinstance(one, Authority) else one.key_pair
    if name != stem or not _NAME.fullmatch(name):
        key = "authority" if isinstance(one, Authority) else "key_pair"
        yield wrong(key, what=f"{name!r} is not the file's name", next_step=f"call it {stem}")
    if isinstance(one, Authority):
        if one.days < 1:
            yield wrong("days", what="must be one or more")
        for called, certificate in one.certificates.items():
            for what in _wrong_certificate(called, certificate, one):
                yield wrong("certificates", called, what=what)
        places = {"trusted_in": one.trusted_in, "signs_in": one.signs_in}
    else:
        places = {"private_in": one.private_in, "public_in": one.public_in}
    for field_name, listed in places.items():
        for index, place in enumerate(listed):
            for what in _wrong_file(place.path, place.owner, place.read_by):
                yield wrong(field_name, index, what=what)


def _wrong_certificate(called: str, certificate: Certificate, authority: Authority) -> Iterator[str]:
    if not _NAME.fullmatch(called):
        yield "a name is small letters, digits and single dashes"
    if not _SUBJECT.fullmatch(certificate.subject):
        yield f"subject {certificate.subject!r} is not of the form CN=name or CN=name, O=group"
    for placeholder in _PLACEHOLDER.findall(certificate.subject):
        if placeholder not in _FILLED_IN or (placeholder == "host.name" and certificate.role == "operator"):
            yield f"nothing is known to fill in {{{placeholder}}}; known are {', '.join(sorted(_FILLED_IN))}"
    if not certificate.usages:
        yield "usages is empty; say server, client or both"
    if "server" in certificate.usages and not certificate.sans:
        yield "a server certificate needs sans"
    if not 1 <= certificate.days <= authority.days:
        yield f"days must be 1 to {authority.days}, the authority's own"
    if certificate.role == "operator":
        if certificate.path or certificate.read_by or certificate.sans:
            yield "the operator's stays in state/: no path, read_by or sans"
    elif certificate.path is None:
        yield "path is missing"
    else:
        yield from _wrong_file(certificate.path, certificate.owner, certificate.read_by)


def _wrong_file(path: PurePosixPath, owner: str, read_by: Mapping[str, Pickup]) -> Iterator[str]:
    if not path.is_absolute() or ".." in path.parts:
        yield f"path {str(path)!r} is not absolute"
    if not _OWNER.fullmatch(owner):
        yield f"owner {owner!r} is not user:group"
    if not read_by:
        yield "read_by is empty; nobody reads this file"
    for reader in read_by:
        if not _READER.fullmatch(reader):
            yield f"reader {reader!r} is neither a unit nor a program"


def _clashes(directory: Path, authorities: tuple[Authority, ...]) -> Iterator[Finding]:
    names = Counter(name for authority in authorities for name in authority.certificates)
    for name in sorted(name for name, times in names.items() if times > 1):
        yield Finding(where=str(directory), what=f"certificate {name} is declared twice", next_step="give one of them another name")
    bundles = {place.path for authority in authorities for place in authority.trusted_in}
    pairs = Counter(
        path
        for authority in authorities
        for path in (*(c.path for c in authority.certificates.values() if c.path), *(place.path for place in authority.signs_in))
    )
    for path in sorted(path for path, times in pairs.items() if times > 1 or path in bundles):
        yield Finding(where=str(directory), what=f"{path} is declared twice", next_step="only bundles of several authorities share a file")
