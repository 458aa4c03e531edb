"""From when to when each certificate is good, drawn to scale: authorities by years, what they sign by months."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hardway.certs.look import Seen
from hardway.certs.report import Report
from hardway.pki.register import Item

MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 1200)  # between two marks
DAYS = (1, 2, 7, 14)
MARKS, STRONG = 11, 5  # at most, on a wide page and on a narrow one
EDGE, WIDER = 4.0, 7.5  # per cent of the width, in which there is no room for a label: of a wide page, of a narrow one
MARGIN = 0.015  # of the width, on both sides

Called = Callable[[Iterable[str]], str]  # hosts in few words


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A time on an axis."""

    at: float  # per cent of the width
    label: str
    strong: bool  # also on a narrow page


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A linear scale of time."""

    began: datetime
    ended: datetime

    @classmethod
    def of(cls, times: Sequence[datetime]) -> Axis:
        """Room for all of them."""
        began, ended = min(times), max(times)
        margin = max(ended - began, timedelta(hours=1)) * MARGIN
        return cls(began=began - margin, ended=ended + margin)

    def at(self, when: datetime) -> float:
        """Where a time is, in per cent of the width."""
        return round(100 * ((when - self.began) / (self.ended - self.began)), 3)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The first days of months, or single days if it is all about a few weeks."""
        days = (self.ended - self.began) / timedelta(days=1)
        if days < 62:
            step = next((one for one in DAYS if days / one < MARKS), DAYS[-1])
            times = [self._midnight + timedelta(days=step * number) for number in range(1, int(days / step) + 1)]
            return self._marked(times, "%m-%d")
        step = next(one for one in MONTHS if days / 30.4 / one < MARKS)
        return self._marked(list(self._months(step)), "%Y" if step >= 12 else "%Y-%m")

    @property
    def _midnight(self) -> datetime:
        return self.began.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    def _months(self, step: int) -> Iterator[datetime]:
        number = (self.began.year * 12 + self.began.month - 1) // step * step
        while (number := number + step) // 12 <= self.ended.year:
            yield datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)

    def _marked(self, times: Sequence[datetime], form: str) -> tuple[Mark, ...]:
        inside = [time for time in times if EDGE < self.at(time) < 100 - EDGE]
        strong = [time for time in inside if WIDER < self.at(time) < 100 - WIDER]
        strong = strong[:: -(-len(strong) // STRONG) or 1]
        return tuple(Mark(at=self.at(time), label=time.strftime(form), strong=time in strong) for time in inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Certificates that are alike on several hosts, or one."""

    name: str
    about: str  # whose, where
    standing: str  # of an authority: signs, trusted, retired
    began: datetime | None
    ends: datetime | None
    near: timedelta  # before its end it is renewed
    days: int | None
    wrong: tuple[str, ...]

    @property
    def left(self) -> str:
        """The days left, in words."""
        match self.days:
            case None:
                return "no end is known"
            case days if days < 0:
                return f"over for {-days} days"
            case 1:
                return "1 day left"
            case days:
                return f"{days:,} days left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that belong together, such as what one authority has signed."""

    title: str
    rows: tuple[Row, ...]

    @property
    def wrong(self) -> bool:
        return any(row.wrong for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Groups that are drawn on one scale."""

    axis: Axis
    groups: tuple[Group, ...]


def authorities(report: Report, retired: Sequence[Item]) -> Panel:
    """Every generation, also those that are trusted no more."""
    there = [one for one in report.seen if one.item.kind == "authority" and not one.item.path]
    rows = {one.item.authority: list[Row]() for one in there}
    for one in there:
        rows[one.item.authority].append(_row(report, one.item, "", report.why(one)))
    for item in retired:
        rows.setdefault(item.authority, []).insert(0, _row(report, item, "", ()))
    return _panel(report, [Group(title=name, rows=tuple(several)) for name, several in rows.items()])


def certificates(report: Report, called: Called) -> Panel:
    """Everything that authorities have signed, by who has signed it; a row for what is alike on several hosts."""
    folded: dict[tuple[object, ...], list[Seen]] = {}
    for one in distinct(report.seen):
        item = one.item
        ends = item.not_after and item.not_after.date(), item.not_before and item.not_before.date()
        folded.setdefault((item.issuer, item.name, ends, report.why(one)), []).append(one)
    groups: dict[str, list[Row]] = {}
    for (issuer, *_), several in folded.items():
        item = min((one.item for one in several), key=lambda item: (item.not_after is None, item.not_after))
        hosts = called(one.item.host for one in several if one.item.host)
        groups.setdefault(str(issuer), []).append(_row(report, item, hosts or item.note, report.why(several[0])))
    ordered = sorted(groups.items(), key=lambda group: group[0] == "")
    titled = [(f"Signed by {issuer}" if issuer else "Not to be read, or not there", rows) for issuer, rows in ordered]
    return _panel(report, [Group(title=title, rows=tuple(rows)) for title, rows in titled])


def distinct(seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """Each certificate once: a kubeconfig that holds another's is no other."""
    mine = [one for one in seen if one.item.kind == "certificate"]
    serials = {one.item.serial for one in mine}
    return (*mine, *(one for one in seen if one.item.kind == "kubeconfig" and one.item.serial and one.item.serial not in serials))


def _row(report: Report, item: Item, about: str, wrong: tuple[str, ...]) -> Row:
    return Row(
        name=item.name,
        about=about,
        standing=item.note if item.kind == "authority" else "",
        began=item.not_before,
        ends=item.not_after,
        near=report.near(item),
        days=report.days(Seen(item=item)),
        wrong=wrong,
    )


def _panel(report: Report, groups: Sequence[Group]) -> Panel:
    rows = [row for group in groups for row in group.rows]
    times = [time for row in rows for time in (row.began, row.ends) if time]
    return Panel(axis=Axis.of([*times, report.asked]), groups=tuple(groups))
