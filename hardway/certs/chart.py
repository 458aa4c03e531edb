"""The course of a rotation, drawn to scale: its steps, the requests meanwhile, what failed, what was restarted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import get_args

from hardway.chronicle import Part, Phase, Record, Restart

WIDE, NARROW = 950, 330  # pixels that a chart has at least on such a page
LETTER = 7.0  # pixels
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # seconds between two marks
MARKS, STRONG = 13, 5
HIGH = 120  # pixels of the requests
LOW = 36  # pixels of the failures
FLOOR = 6  # pixels of a single one


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A step, and what of its name there is room for, on a wide page and on a narrow one."""

    left: float
    width: float
    number: int
    name: str
    phases: tuple[Phase, ...]

    @property
    def began(self) -> datetime:
        return self.phases[0].began

    @property
    def seconds(self) -> Mapping[Part, float]:
        """What each part took."""
        return {part: sum(one.seconds for one in self.phases if one.part == part) for part in get_args(Part)}

    @property
    def wide(self) -> str:
        return self._fits(WIDE)

    @property
    def narrow(self) -> str:
        return self._fits(NARROW)

    def _fits(self, pixels: int) -> str:
        room = self.width / 100 * pixels - 8
        return next((text for text in (f"{self.number} {self.name}", str(self.number)) if len(text) * LETTER <= room), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A phase or a restart, and where it is."""

    left: float
    width: float
    of: Phase | Restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """Failures within a moment."""

    at: float
    number: int
    height: float
    visible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A time since the beginning."""

    at: float
    label: str
    strong: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One record on one scale."""

    record: Record

    @property
    def _began(self) -> datetime:
        load = self.record.load
        return min(self.record.began, load.since) if load and load.counts else self.record.began

    @property
    def _span(self) -> timedelta:
        load = self.record.load
        ends = [
            self.record.ended,
            *([load.since + timedelta(seconds=load.seconds_each * len(load.counts))] if load and load.counts else []),
        ]
        return max(max(ends) - self._began, timedelta(seconds=1))

    def at(self, when: datetime) -> float:
        """Where a time is, in per cent of the width."""
        return round(100 * ((when - self._began) / self._span), 3)

    @property
    def bands(self) -> tuple[Band, ...]:
        """The steps, in order."""
        steps = [tuple(phases) for _, phases in groupby(self.record.phases, key=lambda one: (one.of, one.step))]
        several = len({one.of for one in self.record.phases}) > 1
        return tuple(
            Band(
                left=self.at(phases[0].began),
                width=round(self.at(phases[-1].ended) - self.at(phases[0].began), 3),
                number=number,
                phases=phases,
                name=f"{phases[0].of} {phases[0].step}" if several else phases[0].step,
            )
            for number, phases in enumerate(steps, 1)
        )

    @property
    def phases(self) -> tuple[Drawn, ...]:
        return self._drawn(self.record.phases)

    @property
    def units(self) -> tuple[tuple[str, tuple[Drawn, ...]], ...]:
        """By unit, those that began first before the others."""
        units = dict.fromkeys(one.unit for one in sorted(self.record.restarts, key=lambda one: one.began))
        return tuple((unit, self._drawn([one for one in self.record.restarts if one.unit == unit])) for unit in units)

    def _drawn(self, several: Sequence[Phase | Restart]) -> tuple[Drawn, ...]:
        return tuple(Drawn(left=self.at(one.began), width=round(self.at(one.ended) - self.at(one.began), 3), of=one) for one in several)

    @property
    def most(self) -> int:
        """Requests a second, where there were most, rounded up to what can be read off."""
        load = self.record.load
        highest = max((requests / load.seconds_each for requests, *_ in load.counts), default=0) if load else 0
        step = next(step for step in (10, 20, 50, 100, 200, 500, 1000, 10**6) if highest <= 5 * step)
        return max(step, -int(-highest // step) * step)

    @property
    def line(self) -> str:
        """Requests a second, as an SVG path: x in per cent of the width, y in pixels."""
        points = list(self._points())
        return f"M{points[0][0]} {HIGH}" + "".join(f"L{x} {y}" for x, y in points) + f"L{points[-1][0]} {HIGH}Z" if points else ""

    def _points(self) -> Iterator[tuple[float, float]]:
        if load := self.record.load:
            for number, (requests, *_) in enumerate(load.counts):
                yield self._middle(number), round(HIGH * (1 - requests / load.seconds_each / self.most), 1)

    @property
    def strokes(self) -> tuple[Stroke, ...]:
        """Failures, raw ones and of these the visible."""
        return tuple(self._strokes())

    def _strokes(self) -> Iterator[Stroke]:
        load = self.record.load
        worst = max((raw for *_, raw in load.counts), default=0) if load else 0
        for number, (_, *counts) in enumerate(load.counts if load else ()):
            for visible, count in zip((True, False), counts, strict=True):
                if count:
                    height = round(FLOOR + (LOW - FLOOR) * min(count / worst, 1), 1) if worst else FLOOR
                    yield Stroke(at=self._middle(number), number=count, height=height, visible=visible)

    def _middle(self, number: int) -> float:
        load = self.record.load
        return self.at(load.since + timedelta(seconds=load.seconds_each * (number + 0.5))) if load else 0.0

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Round times since the beginning."""
        seconds = self._span.total_seconds()
        step = next((one for one in STEPS if seconds / one < MARKS), STEPS[-1])
        times = range(0, int(seconds) + 1, step)
        every = -(-len(times) // STRONG)
        form = "{0} s" if seconds < 120 else "{1}:{2:02}"
        return tuple(
            Tick(at=round(100 * time / seconds, 3), label=form.format(time, *divmod(time, 60)), strong=not number % every)
            for number, time in enumerate(times)
        )
