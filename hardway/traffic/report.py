"""What a run of traffic has found, as people and programs read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hardway.traffic.ledger import Ledger, Tally
from hardway.traffic.mix import PLAIN

SCHEMA = 1
LONGEST = 4000  # entries of what was counted by the second; a longer run has several seconds in each
KEYS = ("requests", "planned", "client_visible_failures", "raw_failures", "replayed", "longest_gap_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Read-only; `document` is what goes to programs."""

    document: Mapping[str, Any] = field(repr=False)

    @property
    def visible(self) -> int:
        """Failures that a correct client has seen."""
        return int(self.document["client_visible_failures"])

    @property
    def raw(self) -> int:
        return int(self.document["raw_failures"])

    @property
    def gap(self) -> float:
        """Seconds; the longest that one client was without an answer."""
        return float(self.document["longest_gap_ms"]) / 1000

    @property
    def short(self) -> Mapping[str, tuple[int, int]]:
        """Kinds of which there were fewer requests than planned: how many there were, and should have been."""
        return {kind: (one["requests"], one["planned"]) for kind, one in self._lines.items() if one["requests"] < one["planned"]}

    @property
    def green(self) -> bool:
        return not self.visible and not self.short

    @property
    def rows(self) -> list[tuple[object, ...]]:
        """A table with the columns of KEYS behind the kind."""
        return [(kind, *(one[key] for key in KEYS)) for kind, one in self._lines.items()]

    @property
    def _lines(self) -> Mapping[str, Mapping[str, int]]:
        return {**self.document["by_kind"], **{kind: self.document[kind] for kind in PLAIN}}

    @property
    def failures(self) -> Sequence[Mapping[str, Any]]:
        """Every raw failure that was written down, the oldest first."""
        listed: Sequence[Mapping[str, Any]] = self.document["failures"]
        return listed

    @property
    def verdict(self) -> str:
        """One line."""
        document = self.document
        line = (
            f"{document['requests']} requests in {document['seconds']:.0f} s: {self.visible} failures visible to clients, "
            f"{self.raw} raw, longest gap {document['longest_gap_ms']} ms"
        )
        few = "; ".join(f"{kind}: {there} of {planned} planned" for kind, (there, planned) in self.short.items())
        return f"{line}; fewer than planned: {few}" if few else line


def report(ledger: Ledger, *, planned: Mapping[str, int], left_out: Mapping[str, str], seconds: float) -> Report:
    """Everything that was counted."""
    empty = Tally()
    kinds = {kind: _line(ledger.kinds.get(kind, empty), planned[kind]) for kind in sorted(planned)}
    plain = {kind: kinds.pop(kind) for kind in PLAIN}
    every = [*kinds.values(), *plain.values()]
    return Report(
        document={
            "schema": SCHEMA,
            "seconds": round(seconds, 3),
            "requests": sum(one["requests"] for one in every),
            "client_visible_failures": sum(one["client_visible_failures"] for one in kinds.values()),
            "raw_failures": sum(one["raw_failures"] for one in every),
            "longest_gap_ms": max(one["longest_gap_ms"] for one in kinds.values()),
            "by_kind": kinds,
            **plain,
            "by_client": {client: _line(tally, 0) for client, tally in sorted(ledger.clients.items())},
            "by_second": _by_second({kind: ledger.kinds.get(kind, empty) for kind in planned}),
            "left_out": dict(left_out),
            "failures": [one.document for one in sorted(ledger.failures, key=lambda one: one.at)],
        }
    )


def _line(tally: Tally, planned: int) -> dict[str, int]:
    values = (tally.requests, planned, tally.visible, tally.raw, tally.replayed, round(tally.gap * 1000))
    return dict(zip(KEYS, values, strict=True))


def _by_second(kinds: Mapping[str, Tally]) -> dict[str, Any]:
    """Requests, visible and raw failures, second after second; their sums are those of the report."""
    every = [(at, second, kind) for kind, tally in kinds.items() for at, second in tally.seconds.items()]
    first, last = min((at for at, *_ in every), default=0), max((at for at, *_ in every), default=-1)
    width = max(1, -(-(last - first + 1) // LONGEST))
    counts = [[0, 0, 0] for _ in range(first, last + 1, width)]
    for at, second, kind in every:
        one = counts[(at - first) // width]
        one[0] += second.requests
        one[1] += 0 if kind in PLAIN else second.visible
        one[2] += second.raw
    return {"since": datetime.fromtimestamp(first, UTC).isoformat(), "seconds_each": width, "counts": counts}
