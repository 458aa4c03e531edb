"""The steps of a rotation, and what is written down of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hardway.chronicle import Diary
from hardway.errors import Mistake
from hardway.inventory import load
from hardway.pki.succession import Step
from hardway.rotate.steps import Course, World, walk

ROOT = Path(__file__).parents[2]


def world(diary: Diary, push: Callable[[Any], int]) -> World:
    nothing = cast("Any", None)
    empty = cast("Any", SimpleNamespace(inventory=replace(load(ROOT / "inventory.yaml"), hosts=())))
    return World(
        inventory=nothing,
        declarations=nothing,
        state=nothing,
        cluster=lambda: nullcontext(empty),
        push=push,
        pending=lambda _: 0,
        snapshot=lambda _: None,
        unlock=nothing,
        phase=diary.phase,
        tell=lambda _: None,
    )


class KilledError(Exception):
    """The kit dies there."""


class State:
    """What is to be replaced, as state/ has it; and what is done with it, in order."""

    def __init__(self, **done: Step | None) -> None:
        self.done = done
        self.did: list[str] = []
        self.keeps: dict[str, Step] = {}  # what may not be taken
        self.unproved: Step | None = None
        self.dies_at = -1  # when so much was done

    def do(self, what: str) -> None:
        if len(self.did) == self.dies_at:
            raise KilledError
        self.did.append(what)

    def course(self, name: str) -> Course:
        def allow(step: Step) -> None:
            self.do(f"allow {name} {step.value}")
            if self.keeps.get(name) is step:
                raise Mistake.at(name, "is needed")

        def take(step: Step) -> None:
            self.do(f"take {name} {step.value}")
            self.done[name] = step

        def prove(_: object, step: Step) -> None:
            self.do(f"prove {name} {step.value}")
            if self.unproved is step:
                raise Mistake.at("controller-1", "is not proved")

        def forget() -> None:
            self.do(f"forget {name}")
            self.done[name] = None

        return Course(name=name, done=self.done[name], allow=allow, take=take, prove=prove, forget=forget)

    def walk(self, diary: Diary, last: Step = Step.FINISH) -> list[str]:
        """What was done by one run, also if it fails."""
        self.did = []

        def push(_: object) -> int:
            self.do("push")
            return 1

        made = replace(world(diary, push), snapshot=lambda _: self.do("snapshot"))
        with suppress(Mistake, KilledError):
            walk(made, "all", [self.course(name) for name in self.done], last)
        return self.did


def written(diary: Diary) -> list[tuple[str, str]]:
    return [(one.step, one.part) for one in diary.phases]


def test_each_part_of_each_step_is_written_down_in_order() -> None:
    diary = Diary(what="etcd")

    State(etcd=Step.PREPARE).walk(diary)

    assert written(diary) == [(step.value, part) for step in Step for part in ("take", "push", "prove")]


def test_a_proof_that_fails_is_the_last_that_is_written_down() -> None:
    diary, state = Diary(what="etcd"), State(etcd=Step.PREPARE)
    state.unproved = Step.SWITCH

    state.walk(diary)

    assert written(diary)[-3:] == [("switch", "take"), ("switch", "push"), ("switch", "prove")]


def test_all_of_them_take_each_step_together_with_one_push() -> None:
    state = State(a=None, b=None)

    assert state.walk(Diary(what="all"), Step.SWITCH) == [
        "snapshot",
        *("allow a prepare", "allow b prepare", "take a prepare", "take b prepare", "push", "prove a prepare", "prove b prepare"),
        *("allow a switch", "allow b switch", "take a switch", "take b switch", "push", "prove a switch", "prove b switch"),
    ]
    assert state.walk(Diary(what="all")) == [
        *("push", "prove a switch", "prove b switch"),
        *("allow a finish", "allow b finish", "take a finish", "take b finish", "push", "prove a finish", "prove b finish"),
        *("forget a", "forget b"),
    ]
    assert state.done == {"a": None, "b": None}


def test_what_one_of_them_may_not_take_none_takes() -> None:
    state = State(a=Step.SWITCH, b=Step.SWITCH)
    state.keeps = {"b": Step.FINISH}

    assert state.walk(Diary(what="all"))[-2:] == ["allow a finish", "allow b finish"]
    assert state.done == {"a": Step.SWITCH, "b": Step.SWITCH}


def test_one_that_is_killed_anywhere_comes_to_its_end_by_the_same_again() -> None:
    """Nothing is taken twice, and nothing is forgotten before all is proved."""
    diary = Diary(what="all")
    whole = State(a=None, b=None).walk(diary)

    for number in range(whole.index("forget a") + 1):
        state = State(a=None, b=None)
        state.dies_at = number
        before = state.walk(diary)
        state.dies_at = -1
        after = state.walk(diary)

        assert before == whole[:number]
        assert [one for one in before + after if one.startswith("take")] == [one for one in whole if one.startswith("take")]
        assert after[-5:] == whole[-5:]
        assert state.done == {"a": None, "b": None}
