"""The steps of a rotation, and what is written down of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import pytest

from hardway.chronicle import Diary
from hardway.errors import Mistake
from hardway.pki.succession import Step
from hardway.rotate.steps import Course, World, walk


def world(diary: Diary, push: Callable[[Any], int]) -> World:
    nothing = cast("Any", None)
    return World(
        inventory=nothing,
        declarations=nothing,
        state=nothing,
        cluster=lambda: nullcontext(nothing),
        push=push,
        pending=lambda _: 0,
        snapshot=lambda _: None,
        unlock=nothing,
        phase=diary.phase,
        tell=lambda _: None,
    )


def course(prove: Callable[[Any, Step], None]) -> Course:
    """One that goes on: it has been prepared."""
    return Course(name="etcd", done=Step.PREPARE, take=lambda _: None, prove=prove)


def written(diary: Diary) -> list[tuple[str, str]]:
    return [(one.step, one.part) for one in diary.phases]


def test_each_part_of_each_step_is_written_down_in_order() -> None:
    diary = Diary(what="etcd")

    walk(world(diary, lambda _: 1), course(lambda *_: None), Step.FINISH)

    assert written(diary) == [
        ("prepare", "push"),
        ("prepare", "prove"),
        *((step, part) for step in ("switch", "finish") for part in ("take", "push", "prove")),
    ]


def test_a_proof_that_fails_is_the_last_that_is_written_down() -> None:
    def prove(_: object, step: Step) -> None:
        if step is Step.SWITCH:
            raise Mistake.at("controller-1", "is not proved")

    diary = Diary(what="etcd")
    with pytest.raises(Mistake):
        walk(world(diary, lambda _: 1), course(prove), Step.FINISH)

    assert written(diary)[-3:] == [("switch", "take"), ("switch", "push"), ("switch", "prove")]
