"""What is kept of a rotation: also of one that failed, and not of one that was refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hardway import chronicle
from hardway.chronicle import Diary, Load, Record
from hardway.errors import Finding, Mistake
from hardway.state import State

DOCUMENT = {
    "by_second": {"since": "2026-11-28T12:00:00+00:00", "seconds_each": 1, "counts": [[9, 0, 1], [8, 1, 1]]},
    "requests": 17,
    "client_visible_failures": 1,
    "raw_failures": 2,
    "longest_gap_ms": 12,
    "failures": [
        {"at": "a", "kind": "put", "client": "x", "method": "PUT", "instance": "", "cause": "cut", "replayed": True, "visible": False},
        {"at": "b", "kind": "get", "client": "x", "method": "GET", "instance": "c-1", "cause": "late", "replayed": False, "visible": True},
    ],
}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "kit")


def walked(diary: Diary, error: BaseException | None = None) -> Record:
    """A step with a restart, that ends so."""
    with pytest.raises(type(error)) if error else diary.whole(), diary.whole(), diary.phase("etcd", "prepare", "push"):
        with diary.restarting("controller-1", [("etcd.service", "restart")]):
            pass
        if error:
            raise error
    assert diary.record
    return diary.record


def test_a_record_is_read_as_it_was_written(state: State) -> None:
    record = replace(walked(Diary(what="etcd")), load=Load.of(DOCUMENT))

    name = chronicle.keep(state, record)

    assert chronicle.read(state, name) == record
    assert chronicle.names(state) == (name,)
    assert state.path(name).stat().st_mode & 0o777 == 0o600
    assert record.load
    assert [one.cause for one in record.load.faults] == ["late", "cut"]  # what clients saw comes first


@pytest.mark.parametrize(
    ("error", "outcome", "why"),
    [
        (None, "done", ""),
        (Mistake(Finding(where="a", what="is ill"), Finding(where="b", what="too")), "failed", "a: is ill; b: too"),
        (KeyboardInterrupt(), "interrupted", ""),
    ],
)
def test_however_it_ends_what_was_done_until_then_is_known(error: BaseException | None, outcome: str, why: str) -> None:
    record = walked(Diary(what="etcd"), error)

    assert (record.outcome, record.why) == (outcome, why)
    assert [(one.of, one.step, one.part) for one in record.phases] == [("etcd", "prepare", "push")]
    assert [(one.host, one.unit, one.verb) for one in record.restarts] == [("controller-1", "etcd.service", "restart")]
    assert record.began <= record.phases[0].began <= record.restarts[0].began <= record.phases[0].ended <= record.ended


def test_a_rotation_that_was_refused_is_not_kept() -> None:
    diary = Diary(what="etcd")
    with pytest.raises(Mistake), diary.whole():
        raise Mistake.at("etcd", "3 changes are pending")

    assert diary.record is None


def test_the_latest_records_are_kept_and_named_newest_first(state: State) -> None:
    record = walked(Diary(what="etcd"))
    began = datetime(2026, 11, 28, tzinfo=UTC)
    names = [chronicle.keep(state, replace(record, began=began + timedelta(days=day))) for day in range(chronicle.LATEST + 2)]

    assert chronicle.names(state) == tuple(reversed(names[2:]))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"what": 1, "load": 3}', json.dumps({"began": "soon"})])
def test_what_is_no_record_is_a_mistake(state: State, text: str) -> None:
    state.write("rotations/x.json", text.encode())

    with pytest.raises(Mistake, match=r"x.json: is no record of a rotation"):
        chronicle.read(state, "rotations/x.json")
