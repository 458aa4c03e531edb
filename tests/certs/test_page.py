"""The page to look at: it holds everything, marks what is wrong, draws to scale, and is nothing but text where others choose the words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from html.parser import HTMLParser
from pathlib import PurePosixPath

import pytest

from hardway.certs import page as pages
from hardway.certs.chart import Chart
from hardway.certs.look import Seen
from hardway.certs.report import Report
from hardway.chronicle import Fault, Load, Phase, Record, Restart
from hardway.desired import Shown
from hardway.inventory import Inventory
from hardway.pki import succession
from hardway.pki.declared import Declarations
from hardway.pki.register import Item, retired
from hardway.state import State
from hardway.verbs.program.hosts import called
from tests.certs.conftest import FakeCluster

Ask = Callable[..., Report]
BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC)
EMPTY = {"meta", "col", "br", "rect", "line", "path"}  # elements without a content; those of SVG close themselves


@dataclass
class Element:
    name: str
    attributes: Mapping[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def words(self) -> str:
        return " ".join(f"{self.text} {' '.join(child.words for child in self.children)}".split())

    def all(self, name: str, *classes: str) -> list[Element]:
        mine = [self] if self.name == name and {*classes} <= {*self.classes} else []
        return [*mine, *(one for child in self.children for one in child.all(name, *classes))]


class Reader(HTMLParser):
    """Refuses what is not balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        one = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(one)
        if tag not in EMPTY:
            self.open.append(one)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop().name == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.open[-1].text += data


def read(text: str) -> Element:
    # A rect with a title inside is no empty one.
    text = re.sub(r"<(rect|line)([^>]*[^/])>(<title>.*?</title>)</\1>", r"<g\2>\3</g>", text, flags=re.DOTALL)
    reader = Reader()
    reader.feed(text)
    reader.close()
    (root,) = reader.open
    return root


Page = Callable[..., str]


@pytest.fixture
def page(declarations: Declarations, inventory: Inventory, state: State) -> Page:
    def made(report: Report, records: Sequence[Record] = ()) -> str:
        return pages.page(report, retired(declarations, inventory, state), partial(called, inventory), records)

    return made


def rows(root: Element) -> dict[str, Element]:
    """Of the drawn lives, by name."""
    return {row.all("th")[0].text.strip(): row for table in root.all("table", "life") for row in table.all("tr")[1:]}


def x(element: Element, name: str = "x") -> float:
    return float(element.attributes[name].removesuffix("%"))


def drawn(row: Element) -> tuple[float, float]:
    """From where to where, in per cent."""
    bars = [one for one in row.all("rect") if {"spent", "left", "over", "retired"} & {*one.classes}]
    return min(x(one) for one in bars), max(x(one) + x(one, "width") for one in bars)


LOAD = Load(
    since=BEGAN,
    seconds_each=1,
    counts=tuple((100, int(second == 30), int(second in {5, 30})) for second in range(60)),
    requests=6000,
    visible=1,
    raw=2,
    longest_gap_ms=400,
    faults=(Fault(at=BEGAN.isoformat(), kind="get", instance="", cause="<b>cut</b>", visible=True),),
)


def record(*, load: bool = True, what: str = "etcd") -> Record:
    def at(seconds: float) -> datetime:
        return BEGAN + timedelta(seconds=seconds)

    steps = [("prepare", 0), ("switch", 20), ("finish", 40)]
    parts = [("take", 0, 1), ("push", 1, 11), ("prove", 11, 20)]
    return Record(
        what=what,
        outcome="done",
        began=BEGAN,
        ended=at(60),
        phases=tuple(
            Phase(of="etcd", step=step, part=part, began=at(since + a), ended=at(since + b))  # type: ignore[arg-type] # parts
            for step, since in steps
            for part, a, b in parts
        ),
        restarts=tuple(
            Restart(host=f"controller-{n}", unit=f"{unit}.service", verb="restart", began=at(3 * n), ended=at(3 * n + 2))
            for unit in ("etcd", "kube-apiserver")
            for n in (1, 2, 3)
        ),
        load=LOAD if load else None,
    )


def test_every_certificate_is_there_and_what_is_alike_on_several_hosts_is_one_row(report: Ask, page: Page) -> None:
    found = report()

    root = read(page(found))

    there = rows(root)
    assert {one.item.name for one in found.seen if one.item.kind in {"certificate", "authority"} and one.item.serial} == there.keys()
    assert len([row for table in root.all("table", "life") for row in table.all("tr")[1:]]) == len(there)
    assert "every controller" in there["kube-apiserver"].words
    serials = {f"{one.item.serial:x}" for one in found.seen if one.item.serial}
    assert serials <= {cell.text for table in root.all("table") for cell in table.all("td", "code")}


def test_lives_and_today_are_drawn_to_scale(report: Ask, page: Page, now: datetime) -> None:
    there = rows(read(page(report(at=now + timedelta(days=73)))))

    for name, days in (("kube-apiserver", 365), (f"kubernetes-{now.year}a", 3650)):
        row = there[name]
        (today,) = row.all("line", "today")
        began, ended = drawn(row)
        assert (x(today, "x1") - began) / (ended - began) == pytest.approx(73 / days, abs=0.002)
        (window,) = row.all("rect", "renewal")
        assert x(window) == pytest.approx(ended - (ended - began) * 30 / days, abs=0.1)
        assert x(window) + x(window, "width") == pytest.approx(ended, abs=0.01)


def test_what_has_ended_is_drawn_as_over_and_today_is_behind_it(report: Ask, page: Page, now: datetime) -> None:
    row = rows(read(page(report(at=now + timedelta(days=400)))))["admin"]

    assert [one.classes for one in row.all("rect")] == [["over"]]
    assert x(row.all("line", "today")[0], "x1") > drawn(row)[1]


def test_what_is_wrong_is_marked_where_it_is_and_told_at_the_top(report: Ask, page: Page, cluster: FakeCluster, now: datetime) -> None:
    assert not [row for row in rows(read(page(report()))).values() if "wrong" in row.classes]
    cluster.other["controller-3", 2380] = Shown(serial=0xABC, issuer="etcd-ca-2025a", not_after=now)
    cluster.carried["controller-1"][PurePosixPath("/etc/kubernetes/kube-apiserver/serving.pem")] = "0" * 64
    cluster.closed = {10259}
    cluster.dead = {"worker-2"}
    found = report()

    root = read(page(found))

    lines = [one.words for one in root.all("ul", "said")[0].all("li")]
    assert all(any(why in line for line in lines) for why in (*found.wrong, *found.unknown))
    marked = [row for table in root.all("table", "life") for row in table.all("tr", "wrong")]
    assert {(row.all("th")[0].text.strip(), row.all("small")[0].words) for row in marked} == {
        ("etcd-peer", "controller-3"),
        ("kube-apiserver", "controller-1"),
    }
    places = [row.words for row in root.all("table", "stack")[0].all("tr")]
    assert [row for row in places if "etcd-peer" in row and "shows abc" in row]
    assert [row for row in places if "not asked" in row and "worker-2" in row]
    assert [row for row in places if "port 10259" in row and "refused" in row]


def test_a_missing_certificate_has_a_row_without_a_bar(report: Ask, page: Page, state: State) -> None:
    state.path("pki/etcd/etcd-operator.pem").unlink()

    row = rows(read(page(report())))["etcd-operator"]

    assert row.all("rect") == []
    assert "wrong" in row.classes


def test_generations_stand_by_what_they_do(
    report: Ask, page: Page, declarations: Declarations, inventory: Inventory, state: State, now: datetime
) -> None:
    etcd, proxy = (next(one for one in declarations.authorities if one.authority == name) for name in ("etcd", "front-proxy"))
    for one in (etcd, proxy):
        succession.prepare(one, inventory, state, now)
        succession.switch(one, inventory, state, now)
    succession.finish(state, "etcd")
    succession.forget(state, "etcd")

    root = read(page(report()))

    cards = {card.all("h3")[0].text: [one.words for one in card.all("ol")[0].children] for card in root.all("article")}
    older, newer = cards["etcd"]
    assert "retired" in older
    assert "etcd-peer" not in older
    assert "signs" in newer
    assert "etcd-peer every controller" in newer
    assert ["trusted" in one for one in cards["front-proxy"]] == [True, False]
    assert [one.classes for one in rows(root)[f"etcd-ca-{now.year}a"].all("rect")] == [["retired"]]


def test_who_reads_what_is_there_for_every_use(report: Ask, page: Page) -> None:
    found = report()

    root = read(page(found))

    there = {
        (body.all("th")[0].text, row.all("span")[0].text, row.all("td")[1].text)
        for body in root.all("tbody", "unit")
        for row in body.all("tr")[1:]
    }
    assert there == {
        (use.reader.removesuffix(".service"), str(one.item.path), use.pickup.value) for one in found.seen for use in one.item.uses
    }


def test_words_of_others_are_text(report: Ask, page: Page) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    item = Item(kind="certificate", name=hostile, subject=hostile, issuer=hostile, serial=1, problem=hostile, sans=(f"DNS:{hostile}",))
    found = report()
    found = replace(found, cluster=hostile, seen=(*found.seen, Seen(item=item)), silent={"lb-1": hostile})

    text = page(found, [replace(record(), why=hostile)])

    root = read(text)
    assert root.all("script") == []
    assert [one for one in root.all("li", "ill") if hostile in one.words]
    assert [one for one in root.all("td") if "<b>cut</b>" in one.words]


def test_it_needs_nothing_beside_itself_and_is_balanced(report: Ask, page: Page) -> None:
    text = page(report(), [record()])

    root = read(text)
    assert {one.attributes["href"][0] for one in root.all("a")} == {"#"}
    assert {one.attributes["href"][1:] for one in root.all("a")} <= set(re.findall(r' id="([^"]+)"', text))
    assert not [one for name in ("link", "img", "script", "iframe", "object", "use", "image") for one in root.all(name)]
    assert "://" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert "@import" not in text
    assert all(
        one.all("title") or one.attributes.keys() & {"aria-label", "aria-labelledby"} for one in root.all("svg") if "role" in one.attributes
    )
    assert "PRIVATE" not in text


def test_the_chart_has_every_second_every_phase_every_restart_and_every_failure(report: Ask, page: Page) -> None:
    root = read(page(report(), [record()]))

    (chart,) = root.all("div", "chart")
    (line,) = chart.all("path", "asked")
    assert line.attributes["d"].count("L") == 60 + 1  # and back to the ground
    assert len(chart.all("g", "phase")) == 9
    assert [one.text for one in chart.all("text", "wide", "named")] == ["1 prepare", "2 switch", "3 finish"]
    assert len(chart.all("g", "restart")) == 6
    strokes = chart.all("g", "stroke")
    assert ["visible" in one.classes for one in strokes] == [False, True, False]
    assert [x(one, "x1") for one in strokes] == pytest.approx([100 * at / 60 for at in (5.5, 30.5, 30.5)], abs=0.01)
    assert [x(one) for one in chart.all("rect", "step")] == pytest.approx([100 * since / 60 for since in (0, 20, 40)], abs=0.01)


def test_without_load_steps_and_restarts_are_drawn(report: Ask, page: Page) -> None:
    (chart,) = read(page(report(), [record(load=False)])).all("div", "chart")

    assert chart.all("path", "asked") == []
    assert (len(chart.all("g", "phase")), len(chart.all("g", "restart"))) == (9, 6)


def test_a_load_that_asked_nothing_does_not_bend_the_scale(report: Ask, page: Page) -> None:
    nothing = replace(LOAD, since=datetime.fromtimestamp(0, UTC), counts=(), faults=())

    (chart,) = read(page(report(), [replace(record(), load=nothing)])).all("div", "chart")

    assert [x(one) for one in chart.all("rect", "step")] == pytest.approx([100 * since / 60 for since in (0, 20, 40)], abs=0.01)


def test_the_newest_rotation_is_drawn_and_the_others_have_a_line(report: Ask, page: Page) -> None:
    root = read(page(report(), [record(), record(what="older"), record(what="oldest")]))

    assert len(root.all("div", "chart")) == 1
    assert "etcd" in next(one for one in root.all("h2") if one.attributes["id"] == "rotation").text
    assert [one.text for one in root.all("th") if one.text in {"older", "oldest"}] == ["older", "oldest"]
    assert read(page(report())).all("div", "chart") == []


def scale(counts: Iterable[int], each: int = 1) -> Chart:
    load = replace(LOAD, seconds_each=each, counts=tuple((count, 0, 0) for count in counts))
    return Chart(record=replace(record(), load=load))


@pytest.mark.parametrize(("counts", "each", "most"), [((104,), 1, 150), ((0,), 1, 10), ((), 1, 10), ((3,), 1, 10), ((980, 2), 2, 500)])
def test_the_scale_goes_up_to_a_round_number(counts: tuple[int, ...], each: int, most: int) -> None:
    assert scale(counts, each).most == most


def test_requests_are_drawn_a_second_also_where_an_entry_has_several() -> None:
    assert [y for _, y in scale((200, 100), 2)._points()] == [0.0, 60.0]
