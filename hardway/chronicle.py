"""What happened in a rotation: its steps, what was restarted, what clients saw; kept in state/, to be looked at when it is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from hardway.errors import Mistake
from hardway.state import State

DIRECTORY = "rotations"
LATEST = 20  # records that are kept
LISTED = 100  # failures of one load that are kept

Outcome = Literal["done", "failed", "interrupted"]
Part = Literal["take", "push", "prove"]  # of a step: in state/, on the hosts, where it shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time with an end."""

    began: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Span):
    """A part of one step of what is replaced."""

    of: str  # such as kubernetes
    step: str
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(Span):
    """A unit that was started, restarted or reloaded, from the request to the host's answer."""

    host: str
    unit: str
    verb: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A request that failed under the load."""

    at: str
    kind: str
    instance: str
    cause: str
    visible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the clients of a load saw meanwhile."""

    since: datetime
    seconds_each: int  # of one entry of `counts`
    counts: tuple[tuple[int, int, int], ...]  # requests, visible failures, raw failures
    requests: int
    visible: int
    raw: int
    longest_gap_ms: int
    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Load:
        """What is kept of a report of traffic: its counts, and the first failures, those that clients saw before the others."""
        by_second = document["by_second"]
        failures = sorted(document["failures"], key=lambda one: not one["visible"])[:LISTED]
        return cls(
            since=datetime.fromisoformat(by_second["since"]),
            seconds_each=by_second["seconds_each"],
            counts=tuple((requests, visible, raw) for requests, visible, raw in by_second["counts"]),
            requests=document["requests"],
            visible=document["client_visible_failures"],
            raw=document["raw_failures"],
            longest_gap_ms=document["longest_gap_ms"],
            faults=tuple(Fault(**{name: one[name] for name in ("at", "kind", "instance", "cause", "visible")}) for one in failures),
        )

    @property
    def result(self) -> str:
        """What became of it, in one line."""
        return (
            f"{self.requests:,} requests, {self.visible} failures visible to clients, {self.raw} raw, longest gap {self.longest_gap_ms} ms"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Span):
    """A rotation that is over."""

    what: str
    outcome: Outcome
    why: str = ""  # it has failed
    phases: tuple[Phase, ...] = ()
    restarts: tuple[Restart, ...] = ()
    load: Load | None = None

    @property
    def result(self) -> str:
        """How it went, in one line."""
        lines = [f"{self.outcome} after {self.seconds:.0f} s, {len(self.restarts)} restarts"]
        lines += [self.load.result] if self.load else []
        return "; ".join([*lines, *([self.why] if self.why else [])])


@dataclass(slots=True)
class Diary:
    """Kept while a rotation goes on, by whoever does something; `noted` is given what there is after each part, in case it is the last."""

    what: str
    noted: Callable[[Record], object] = lambda _: None
    phases: list[Phase] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    load: Load | None = None
    _began: datetime | None = None
    _end: tuple[datetime, Outcome, str] | None = None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All of it; how it ends is written down."""
        self._began = _now()
        try:
            yield
        except Exception as error:
            self._end = _now(), "failed", "; ".join(str(error).splitlines())
            raise
        except BaseException:
            self._end = _now(), "interrupted", ""
            raise
        self._end = _now(), "done", ""

    @contextmanager
    def phase(self, of: str, step: str, part: Part) -> Iterator[None]:
        """One part of a step, also if it fails."""
        began = _now()
        try:
            yield
        finally:
            self.phases.append(Phase(of=of, step=step, part=part, began=began, ended=_now()))
            if record := self.record:
                self.noted(record)

    @contextmanager
    def restarting(self, host: str, units: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Units, each with what is done with it, while their host does it."""
        began = _now()
        try:
            yield
        finally:
            ended = _now()
            self.restarts += [Restart(host=host, unit=unit, verb=verb, began=began, ended=ended) for unit, verb in units]

    @property
    def record(self) -> Record | None:
        """What is worth keeping: interrupted, as long as it goes on; nothing of a rotation that was refused before its first step."""
        if self._began is None or not self.phases:
            return None
        ended, outcome, why = self._end or (_now(), "interrupted", "")
        return Record(
            what=self.what,
            began=self._began,
            ended=ended,
            outcome=outcome,
            why=why,
            phases=tuple(self.phases),
            restarts=tuple(self.restarts),
            load=self.load,
        )


def keep(state: State, record: Record) -> str:
    """Write a record down, and forget the oldest of many; its name in state/."""
    name = f"{DIRECTORY}/{record.began:%Y-%m-%dT%H-%M-%SZ}-{record.what}.json"
    document = {"schema": 1, **asdict(record)}
    state.write(name, json.dumps(document, default=datetime.isoformat).encode())
    for old in names(state)[LATEST:]:
        state.remove(old)
    return name


def names(state: State) -> tuple[str, ...]:
    """The records that are there, the newest first."""
    return tuple(reversed(state.glob(f"{DIRECTORY}/*.json")))


def read(state: State, name: str) -> Record:
    """One record; a Mistake if it is none."""
    try:
        return _parsed(json.loads(state.read(name)))
    except (ValueError, KeyError, TypeError):
        raise Mistake.at(state.where(name), "is no record of a rotation", "remove it") from None


def _parsed(found: Mapping[str, Any]) -> Record:
    seen = found["load"]
    return Record(
        what=found["what"],
        outcome=found["outcome"],
        why=found["why"],
        **_span(found),
        phases=tuple(Phase(of=one["of"], step=one["step"], part=one["part"], **_span(one)) for one in found["phases"]),
        restarts=tuple(Restart(host=one["host"], unit=one["unit"], verb=one["verb"], **_span(one)) for one in found["restarts"]),
        load=seen and _load(seen),
    )


def _load(found: Mapping[str, Any]) -> Load:
    counts = tuple((requests, visible, raw) for requests, visible, raw in found["counts"])
    faults = tuple(Fault(**one) for one in found["faults"])
    return Load(**{**found, "since": datetime.fromisoformat(found["since"]), "counts": counts, "faults": faults})


def _span(found: Mapping[str, Any]) -> dict[str, datetime]:
    return {name: datetime.fromisoformat(found[name]) for name in ("began", "ended")}


def _now() -> datetime:
    return datetime.now(UTC)
