"""What leaves has a name, and a reset is shown before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from hardway.errors import Finding
from hardway.inventory import Host
from hardway.leaving import reset
from hardway.leaving.reset import Reset
from hardway.plan import Change, Plan
from hardway.verbs.program import running, session
from hardway.verbs.program.cli import Cli
from tasks import CONTENTS

HOST = Host(name="worker-1", address=IPv4Address("10.240.0.21"), roles=frozenset({"worker"}))
GOES = Plan(host=HOST, changes=(Change(component="kubelet", action="stop", what="kubelet.service", why=""),))
SILENT = Finding(where="worker-2", what="no route to host")


@dataclass
class Engine:
    """Stands in for what looks at hosts and changes them."""

    found: Reset
    asked: list[str] = field(default_factory=list)
    done: list[Reset] = field(default_factory=list)

    def survey(self, cluster: object, hosts: Sequence[Host]) -> Reset:  # noqa: ARG002 - the engine's signature
        self.asked = [host.name for host in hosts]
        return self.found

    def reset(self, cluster: object, found: Reset, tell: object) -> None:  # noqa: ARG002 - the engine's signature
        self.done.append(found)


def inv(engine: Engine, *words: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    monkeypatch.setattr(reset, "survey", engine.survey)
    monkeypatch.setattr(reset, "reset", engine.reset)
    with pytest.raises(SystemExit) as ended:
        Cli(CONTENTS, version="0").run(["inv", *words])
    return ended.value.code


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No host is reached, and state/ is not the repository's."""

    def nothing(*_: Any, **__: Any) -> Any:
        return nullcontext()

    monkeypatch.setattr(running, "running", nothing)
    monkeypatch.setattr(session.Session, "state", property(lambda _: tmp_path / "state"))


def test_without_yes_it_is_shown_and_nothing_goes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(Reset(plans=(GOES,), silent=()))

    assert inv(engine, "reset", monkeypatch=monkeypatch) == 2
    assert engine.done == []
    said = capsys.readouterr().out
    assert "kubelet    stop    kubelet.service  worker-1" in said
    assert "1 things would go for good; add --yes if that is meant" in said


def test_with_yes_it_goes_and_what_stays_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(Reset(plans=(GOES,), silent=()))

    assert inv(engine, "reset", "--yes", monkeypatch=monkeypatch) == 0
    assert len(engine.asked) == 6
    assert "keeps the authorities" in capsys.readouterr().out
    assert inv(engine, "reset", "--hosts", "worker-1", "--yes", monkeypatch=monkeypatch) == 0
    assert engine.asked == ["worker-1"]
    assert "`./inv worker.remove worker-1` takes it out" in capsys.readouterr().out
    assert len(engine.done) == 2


def test_hosts_that_do_not_answer_are_told_and_the_rest_goes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(Reset(plans=(GOES,), silent=(SILENT,)))

    assert inv(engine, "reset", "--yes", monkeypatch=monkeypatch) == 1
    assert len(engine.done) == 1
    said = capsys.readouterr().err
    assert "warning: worker-2: no route to host" in said
    assert said.endswith("error: 1 hosts did not answer and have what they had\n")


def test_where_nothing_is_ours_there_is_nothing_to_confirm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(Reset(plans=(), silent=()))

    assert inv(engine, "reset", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "nothing of the kit is there\n"


def test_a_host_that_is_not_in_the_inventory_is_no_host(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert inv(Engine(Reset(plans=(), silent=())), "reset", "--hosts", "nobody", monkeypatch=monkeypatch) == 1
    assert "error: --hosts: nobody means no host of the inventory; it has lb-1, controller-1" in capsys.readouterr().err


def test_a_worker_that_is_to_leave_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inv(Engine(Reset(plans=(), silent=())), "worker.remove", monkeypatch=monkeypatch) == 64
