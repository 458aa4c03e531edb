"""Tolerations are written as taints are, and cover what they say."""

from __future__ import annotations

import pytest

from hardway.desired import Toleration
from hardway.errors import Mistake

TAINT = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("dedicated", {"key": "dedicated", "operator": "Exists"}),
        ("dedicated=gpu", {"key": "dedicated", "operator": "Equal", "value": "gpu"}),
        ("dedicated=", {"key": "dedicated", "operator": "Equal", "value": ""}),
        ("a.b/c-d:NoExecute", {"key": "a.b/c-d", "operator": "Exists", "effect": "NoExecute"}),
        ("dedicated=gpu:NoSchedule", {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}),
    ],
)
def test_a_toleration_is_written_as_a_taint_is(text: str, document: dict[str, str]) -> None:
    assert Toleration.read(text).document() == document


@pytest.mark.parametrize("text", ["", "=gpu", ":NoSchedule", "a=b=c", "dedicated:Never", "two words"])
def test_what_is_no_toleration_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(Mistake, match=r"--toleration.* is none; write KEY\[=VALUE\]\[:EFFECT\]"):
        Toleration.read(text)


@pytest.mark.parametrize("text", ["dedicated", "dedicated=gpu", "dedicated:NoSchedule", "dedicated=gpu:NoSchedule"])
def test_a_toleration_covers_its_taint(text: str) -> None:
    assert Toleration.read(text).covers(TAINT)


@pytest.mark.parametrize("text", ["other", "dedicated=", "dedicated=cpu", "dedicated:NoExecute"])
def test_another_taint_is_not_covered(text: str) -> None:
    assert not Toleration.read(text).covers(TAINT)


def test_a_taint_without_a_value_is_covered_by_an_empty_one() -> None:
    assert Toleration.read("dedicated=").covers({"key": "dedicated", "effect": "NoSchedule"})
