"""Authorities that a host trusts and this state/ does not know: another operator, or another state/, was here (8)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cryptography import x509

from hardway.pki.pair import common_name
from hardway.pki.trust import Trust


def strangers(bundle: str, trusts: Iterable[Trust], now: datetime) -> tuple[str, ...]:
    """The common names of the certificates in a host's bundle that are no generation of ours; the expired protect nothing."""
    known = {found for trust in trusts for found in _certificates(trust.bundle)}
    return tuple(common_name(one.subject) for one in _certificates(bundle) if one not in known and one.not_valid_after_utc > now)


def _certificates(bundle: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(bundle.encode())
    except ValueError:  # damaged: it protects nothing either
        return []
