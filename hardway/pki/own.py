"""A daemon's own client certificate: whether the one that it has will do, and whether what it asks for may be approved."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from hardway.desired import Own
from hardway.inventory import Host
from hardway.pki.pair import Pair, certificates


def read(der: bytes | None) -> Pair | None:
    """A certificate as a host gives it, without its key; None if there is none, or nothing that is one."""
    with suppress(ValueError):
        return Pair(certificate=x509.load_der_x509_certificate(der)) if der else None
    return None


def lacking(own: Own, host: Host, der: bytes | None, trusted: str, now: datetime) -> str:
    """Why the daemon has to ask for another certificate; nothing if the one that it has will do."""
    if der is None:
        return "it has no client certificate"
    found = read(der)
    if found is None:
        return "its client certificate cannot be read"
    if found.certificate.not_valid_after_utc <= now:
        return "its client certificate has ended"
    if _names(found.certificate.subject) != _wanted(own, host):
        return f"its client certificate is for {found.common_name}"
    if not any(Pair(certificate=one).signed(found) for one in certificates(trusted)):
        return f"its client certificate is signed by {found.issuer}, which is not trusted"
    return ""


def refusal(own: Own, host: Host, spec: Mapping[str, Any]) -> str | None:
    """Why a CertificateSigningRequest may not be approved; None if it is exactly what this host's daemon may ask for."""
    return next(_refusals(own, host, spec), None)


def _refusals(own: Own, host: Host, spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("signerName") != own.signer:
        yield f"it is for the signer {spec.get('signerName')}"
    usages = spec.get("usages") or []
    if len(set(usages)) != len(usages) or frozenset(usages) not in own.usages:
        yield f"its usages are {', '.join(usages) or 'none'}"
    try:
        asked = x509.load_pem_x509_csr(b64decode(spec.get("request", ""), validate=True))
        signed, extensions = asked.is_signature_valid, [extension.oid for extension in asked.extensions]
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        yield "it cannot be read"
        return
    if not signed:
        yield "it is not signed by the key that it names"
    if _names(asked.subject) != _wanted(own, host):
        yield f"it is for {asked.subject.rfc4514_string()}"
    if x509.SubjectAlternativeName.oid in extensions:
        yield "it asks for names of a server"
    if extensions:
        yield f"it asks for extensions: {', '.join(oid.dotted_string for oid in extensions)}"


def _names(subject: x509.Name) -> list[tuple[str, str | bytes]]:
    return sorted((attribute.oid.dotted_string, attribute.value) for attribute in subject)


def _wanted(own: Own, host: Host) -> list[tuple[str, str | bytes]]:
    wanted: list[tuple[str, str | bytes]] = [
        (NameOID.COMMON_NAME.dotted_string, own.name(host)),
        (NameOID.ORGANIZATION_NAME.dotted_string, own.organization),
    ]
    return sorted(wanted)
