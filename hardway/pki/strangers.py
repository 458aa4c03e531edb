"""Authorities that a host trusts and this state/ does not know: another operator, or another state/, was here (8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import PurePosixPath

from hardway.pki.pair import certificates, common_name
from hardway.pki.trust import Trust


def unknown(texts: Mapping[PurePosixPath, str], trusts: Iterable[Trust], now: datetime) -> str:
    """Which of them a host's files name, and one such file; nothing if it is ours."""
    known = tuple(trusts)
    found = {name: path for path, text in texts.items() for name in strangers(text, known, now)}
    return f"it trusts {', '.join(found)} ({next(iter(found.values()))}), unknown to this state/" if found else ""


def strangers(bundle: str, trusts: Iterable[Trust], now: datetime) -> tuple[str, ...]:
    """The common names of the certificates in a host's bundle that are no generation of ours; the expired protect nothing."""
    known = {
        found
        for trust in trusts
        for text in (trust.chained, *(one.certificate + one.above for one in trust.retired))
        for found in certificates(text)
    }
    return tuple(common_name(one.subject) for one in certificates(bundle) if one not in known and one.not_valid_after_utc > now)
