"""What the verbs of rotation keep: however it ends, with and without load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from invoke.exceptions import Exit

from hardway import chronicle
from hardway.chronicle import Diary
from hardway.errors import Mistake
from hardway.state import State
from hardway.traffic import Report
from hardway.verbs import rotate, traffic
from hardway.verbs.program.session import Session
from tests.test_chronicle import DOCUMENT


class Told(list[str]):
    """A Step."""

    def __call__(self, text: str) -> None:
        self.append(text)

    def now(self, text: str) -> None:
        pass


class Load:
    def last(self, seconds: float) -> None:
        pass

    def finish(self) -> Report:
        lines: dict[str, Any] = {"seconds": 2, "by_kind": {}, "put_without_replay": {}, "post_without_replay": {}, "left_out": {}}
        none = dict.fromkeys(("requests", "planned", "client_visible_failures", "raw_failures", "replayed", "longest_gap_ms"), 0)
        return Report(document={**lines, **DOCUMENT, "put_without_replay": none, "post_without_replay": none})


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "kit")


@pytest.fixture
def rotated(state: State, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One step of a rotation, which ends so."""
    console = SimpleNamespace(table=lambda *_: None, result=lambda *_: None, tell=lambda *_: None)
    session = cast("Any", SimpleNamespace(state=state.root, console=console))

    @contextmanager
    def beside(*_: object) -> Iterator[Load]:
        yield Load()

    monkeypatch.setattr(rotate, "_world", lambda _session, _tell, diary, **_: diary)
    monkeypatch.setattr(traffic, "ours", lambda *_: None)
    monkeypatch.setattr(traffic, "_beside", beside)

    def begun(*, load: bool = False) -> Any:
        return rotate._under_way(session, cast("Any", Told()), "etcd", "", with_traffic=load)

    def run(*, load: bool, error: BaseException | None = None) -> None:
        with begun(load=load) as world:
            diary = cast("Diary", world)
            with diary.phase("etcd", "prepare", "push"):
                if error:
                    raise error

    cast("Any", run).begun = begun
    return run


@pytest.mark.parametrize("load", [False, True])
def test_a_rotation_that_fails_is_kept_with_what_clients_saw_until_then(rotated: Any, state: State, *, load: bool) -> None:
    with pytest.raises(Mistake, match="is ill"):
        rotated(load=load, error=Mistake.at("etcd", "is ill"))

    (name,) = chronicle.names(state)
    record = chronicle.read(state, name)
    assert (record.outcome, record.why, len(record.phases)) == ("failed", "etcd: is ill", 1)
    assert (record.load is not None) == load


def test_a_rotation_that_is_interrupted_is_kept(rotated: Any, state: State) -> None:
    with pytest.raises(KeyboardInterrupt):
        rotated(load=True, error=KeyboardInterrupt())

    assert [chronicle.read(state, name).outcome for name in chronicle.names(state)] == ["interrupted"]


def test_one_that_is_killed_has_left_what_was_over_by_then(rotated: Any, state: State) -> None:
    seen: list[chronicle.Record] = []
    with rotated.begun() as world:
        for part in ("take", "push"):
            with world.phase("etcd", "prepare", part):
                pass
            (name,) = chronicle.names(state)
            seen.append(chronicle.read(state, name))

    assert [(one.outcome, len(one.phases)) for one in seen] == [("interrupted", 1), ("interrupted", 2)]
    assert [chronicle.read(state, name).outcome for name in chronicle.names(state)] == ["done"]  # the same record, to its end


def test_failures_that_clients_saw_make_no_failed_rotation(rotated: Any, state: State) -> None:
    with pytest.raises(Exit):  # a client saw one
        rotated(load=True)

    (name,) = chronicle.names(state)
    record = chronicle.read(state, name)
    assert (record.outcome, record.load and record.load.visible) == ("done", 1)


def test_a_record_that_cannot_be_kept_hides_nothing(rotated: Any, state: State) -> None:
    state.write("rotations", b"no directory")

    with pytest.raises(Mistake, match="is ill"):
        rotated(load=False, error=Mistake.at("etcd", "is ill"))


def test_a_load_that_would_need_the_older_key_for_an_hour_is_refused_before_it_is_made(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BegunError(Exception):
        """What it stands on is made, and a load if one is wanted."""

    def begun(*_: object, **__: object) -> None:
        raise BegunError

    session = SimpleNamespace(state=state.root, console=SimpleNamespace(step=lambda _: nullcontext()))
    monkeypatch.setattr(Session, "open", lambda _: session)
    monkeypatch.setattr(rotate, "_under_way", begun)
    refused = r"goes on with its token for an hour.*; add --until switch"
    state.write("pki/service-account/key-2026a.pem", b"key")

    for verb in (rotate.service_account_key, rotate.everything):
        with pytest.raises(Mistake, match=refused):
            verb.body(None, with_traffic=True)
        for words in ({"with_traffic": False}, {"with_traffic": True, "until": "switch"}):
            with pytest.raises(BegunError):
                verb.body(None, **words)
    state.write("pki/service-account/key-2026b.pem", b"key")
    for verb in (rotate.service_account_key, rotate.everything):
        with pytest.raises(BegunError):  # it begins with what the newer one signs
            verb.body(None, with_traffic=True)
