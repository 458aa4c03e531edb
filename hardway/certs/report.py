"""What a look at the certificates has found: for people, for programs, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hardway.certs.look import Seen, Wire
from hardway.pki.issue import WINDOW
from hardway.pki.pair import window
from hardway.pki.register import Item

YEAR = timedelta(days=365)  # what a certificate is issued for: below an authority that ends sooner it is cut short


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was seen, and how it is judged."""

    cluster: str
    asked: datetime
    warn: timedelta | None  # before an end; None is when a push would issue a new one
    seen: tuple[Seen, ...]
    silent: Mapping[str, str]  # hosts that did not answer, and why

    @property
    def wrong(self) -> tuple[str, ...]:
        """What somebody has to see to, one line for all hosts where it is the same."""
        hosts: dict[tuple[str, str], list[str]] = {}
        for one in self.seen:
            for why in self.why(one):
                hosts.setdefault((title(one), why), []).extend([one.item.host] if one.item.host else [])
        return tuple(f"{what}{_on(several)}: {why}" for (what, why), several in hosts.items())

    @property
    def unknown(self) -> tuple[str, ...]:
        """What could not be found out, one line each."""
        ports = (one for one in self.seen if one.wire and one.wire.shown is None)
        return (
            *(f"{host}: not asked: {why}" for host, why in self.silent.items()),
            *(f"{title(one)}{_on([one.item.host or ''])}: {silent(one.wire)}" for one in ports),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is allowed and will matter."""
        near = [one.item for one in self.seen if one.item.note == "signs" and one.item.not_after]
        soon = [item for item in near if item.not_after and self.asked < item.not_after <= self.asked + YEAR]
        what = "what it signs from now on ends with it, and nothing replaces it by itself"
        return tuple(f"authority {item.name} ends on {item.not_after:%Y-%m-%d}: {what}" for item in soon)

    @property
    def next(self) -> Seen | None:
        """What ends first."""
        dated = [one for one in self.seen if one.item.not_after and one.item.serial is not None]
        return min(dated, key=lambda one: (one.item.not_after, one.item.kind), default=None)

    @property
    def code(self) -> int:
        """The exit code of the verb: 0 all is well, 1 something is wrong, 3 nothing wrong was seen, but not everything."""
        return 1 if self.wrong else 3 if self.unknown else 0

    def days(self, one: Seen) -> int | None:
        """Days left, rounded down; below zero it is over."""
        return (one.item.not_after - self.asked) // timedelta(days=1) if one.item.not_after else None

    def why(self, one: Seen) -> tuple[str, ...]:
        """What is wrong with one item."""
        return tuple(self._why(one))

    def _why(self, one: Seen) -> Iterator[str]:
        item = one.item
        if item.problem:
            yield item.problem
        # The end of a bundle or of a kubeconfig that names files is told where it is to be mended: at the certificate.
        if item.not_after and item.serial is not None:
            if item.not_after <= self.asked:
                yield f"expired on {item.not_after:%Y-%m-%d %H:%M} UTC"
            elif item.not_after - self.asked <= self.near(item):
                yield f"expires on {item.not_after:%Y-%m-%d}, in {self.days(one)} days"
        if one.on_host == "missing":
            yield "the host has not got it; `./inv push` brings it"
        if one.on_host == "differs":
            yield "the host has another one than state/; `./inv push` brings it"
        if one.wire and one.wire.shown and one.wire.shown.serial != item.serial:
            yield f"{differs(one.wire)}; state/ has {f'{item.serial:x}' if item.serial else 'none'}"

    def near(self, item: Item) -> timedelta:
        """How long before its end an item is wrong."""
        if self.warn is not None or not item.not_after or not item.not_before:
            return self.warn or WINDOW
        return window(item.not_before, item.not_after, WINDOW)

    @property
    def document(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "schema": 1,
            "cluster": self.cluster,
            "asked": self.asked.isoformat(timespec="seconds"),
            "warn_days": self.warn / timedelta(days=1) if self.warn is not None else None,
            "wrong": list(self.wrong),
            "unknown": list(self.unknown),
            "notes": list(self.notes),
            "items": [self._row(one) for one in self.seen],
        }

    def _row(self, one: Seen) -> dict[str, Any]:
        item = one.item
        return {
            "kind": item.kind,
            "name": item.name,
            "authority": item.authority or None,
            "host": item.host,
            "path": str(item.path) if item.path else None,
            "state": item.file or None,
            "subject": item.subject or None,
            "sans": list(item.sans),
            "issuer": item.issuer or None,
            "serial": f"{item.serial:x}" if item.serial else None,
            "not_before": item.not_before.isoformat() if item.not_before else None,
            "not_after": item.not_after.isoformat() if item.not_after else None,
            "days_left": self.days(one),
            "read_by": [{"reader": use.reader, "pickup": use.pickup.value} for use in item.uses],
            "on_host": one.on_host or None,
            "served": _served(one),
            "note": item.note or None,
            "wrong": list(self.why(one)),
        }


def _served(one: Seen) -> dict[str, Any] | None:
    if one.wire is None:
        return None
    shown = one.wire.shown
    return {
        "port": one.wire.serving.port,
        "loopback": one.wire.serving.loopback,
        "serial": f"{shown.serial:x}" if shown else None,
        "issuer": shown.issuer if shown else None,
        "not_after": shown.not_after.isoformat() if shown else None,
        "same": shown.serial == one.item.serial if shown else None,
        "why": one.wire.why or None,
    }


def title(one: Seen) -> str:
    """What it is, in few words."""
    item = one.item
    named = item.kind in {"certificate", "authority"}
    return f"{item.kind} {item.name if named else item.path or item.file or item.name}"


def where(item: Item) -> str:
    """Its path on hosts, else in state/."""
    return str(item.path or (f"state: {item.file}" if item.file else ""))


def _on(hosts: Sequence[str]) -> str:
    return f" on {', '.join(hosts)}" if hosts else ""


def differs(wire: Wire) -> str:
    """What a port shows that it should not."""
    shown = wire.shown
    return f"port {wire.serving.port} shows {shown.serial:x}, of {shown.issuer} until {shown.not_after:%Y-%m-%d}" if shown else ""


def silent(wire: Wire | None) -> str:
    """A port that has shown nothing."""
    return f"port {wire.serving.port}: {wire.why}" if wire else ""
