"""The report as one page to look at, which needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hardway import render
from hardway.certs import life
from hardway.certs.chart import Chart
from hardway.certs.life import Called
from hardway.certs.look import OnHost, Seen
from hardway.certs.report import Report, differs, silent, title, where
from hardway.chronicle import Record
from hardway.desired import Pickup
from hardway.pki.register import Item

T = TypeVar("T")

SOURCE = "templates/pages/certs.html"
MANY = 40  # rows, above which they are folded away

PICKUPS: Mapping[Pickup, str] = {
    Pickup.RESTART: "read at each start: a push restarts the unit",
    Pickup.ONCE: "read at the very first start: a later change means nothing",
    Pickup.RELOAD: "read again on systemctl reload: a push does that",
    Pickup.HANDSHAKE: "read at every TLS handshake",
    Pickup.WATCH: "watched: noticed within two seconds",
    Pickup.POLL: "looked at again within five minutes",
}

HERE: Mapping[OnHost, tuple[str, str]] = {
    "same": ("well", "as in state/"),
    "differs": ("ill", "another than in state/"),
    "missing": ("ill", "missing"),
    "there": ("well", "the host's own"),
    "not asked": ("open", "not asked"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How something is: well, ill or open, which the page says by a sign, a colour and words."""

    how: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One generation of an authority."""

    item: Item
    standing: str
    days: int | None
    wrong: tuple[str, ...]
    signed: tuple[tuple[str, str], ...]  # which certificates, on which hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file on hosts where it is the same, held against state/ and the wire."""

    what: str
    path: str
    there: Finding
    wire: Finding | None
    hosts: str

    @property
    def well(self) -> bool:
        return self.there.how == "well" and (self.wire is None or self.wire.how == "well")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file that a unit reads."""

    path: str
    what: str
    pickup: Pickup
    hosts: str


def page(report: Report, retired: Sequence[Item], called: Called, records: Sequence[Record] = ()) -> str:
    """HTML; `retired` are the authorities that are trusted no more, `records` are rotations, the newest first: that one is drawn."""
    return render.page(
        SOURCE,
        report=report,
        first=report.next,
        authorities=life.authorities(report, retired),
        certificates=life.certificates(report, called),
        families=_families(report, retired, called),
        places=_places(report, called),
        readers=_readers(report, called),
        pickups=PICKUPS,
        each=[one for one in report.seen if one.item.kind != "key" or one.item.path],
        where=where,
        many=MANY,
        chart=Chart(record=records[0]) if records else None,
        older=records[1:],
    )


def _families(report: Report, retired: Sequence[Item], called: Called) -> Mapping[str, list[Generation]]:
    """The generations of each authority, the oldest first."""
    families: dict[str, list[Generation]] = {}
    gone = [(Seen(item=item), ()) for item in retired]
    for one, wrong in (*gone, *((one, report.why(one)) for one in report.seen)):
        item = one.item
        if item.kind == "authority" and not item.path:
            signed = [found.item for found in life.distinct(report.seen) if found.item.issuer == item.name]
            names = dict.fromkeys(found.name for found in signed)
            families.setdefault(item.authority, []).append(
                Generation(
                    item=item,
                    standing=item.note or "missing",
                    days=report.days(one),
                    wrong=wrong,
                    signed=tuple((name, called(found.host for found in signed if found.name == name and found.host)) for name in names),
                )
            )
    return families


def _places(report: Report, called: Called) -> tuple[Place, ...]:
    there = [one for one in report.seen if one.item.path and one.item.host]
    return tuple(
        Place(
            what=title(several[0]) if several[0].item.kind == "certificate" else several[0].item.kind,
            path=where(several[0].item),
            there=Finding(how=HERE[several[0].on_host][0], words=HERE[several[0].on_host][1]),
            wire=_wire(several[0]),
            hosts=called(one.item.host or "" for one in several),
        )
        for several in _alike(there, lambda one: (one.item.kind, one.item.name, one.item.path, one.on_host, _wire(one)))
    )


def _wire(one: Seen) -> Finding | None:
    if one.wire is None:
        return None
    if one.wire.shown is None:
        return Finding(how="open", words=silent(one.wire))
    if one.wire.shown.serial != one.item.serial:
        return Finding(how="ill", words=differs(one.wire))
    return Finding(how="well", words=f"port {one.wire.serving.port} shows it")


def _readers(report: Report, called: Called) -> Mapping[str, list[Reading]]:
    """By unit, what it reads."""
    readings = [(use, one) for one in report.seen for use in one.item.uses]
    found: dict[str, list[Reading]] = {}
    for several in _alike(readings, lambda pair: (pair[0], pair[1].item.kind, pair[1].item.name, pair[1].item.path)):
        use, one = several[0]
        reading = Reading(
            path=where(one.item),
            what=f"{one.item.kind} {one.item.name}" if one.item.kind != "kubeconfig" else "kubeconfig",
            pickup=use.pickup,
            hosts=called(other.item.host for _, other in several if other.item.host),
        )
        found.setdefault(use.reader.removesuffix(".service"), []).append(reading)
    return dict(sorted(found.items()))


def _alike(several: Iterable[T], key: Callable[[T], Hashable]) -> Iterable[list[T]]:
    """Those with the same key together, in the order of the first of each."""
    found: dict[Hashable, list[T]] = {}
    for one in several:
        found.setdefault(key(one), []).append(one)
    return found.values()
