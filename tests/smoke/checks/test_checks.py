"""The list of checks: each says what it proves, and has been seen to fail."""

from __future__ import annotations

import ast
from pathlib import Path

from hardway.components import ALL
from hardway.smoke import CHECKS

LAB = Path(__file__).parents[2] / "lab"


def turned_red() -> set[str]:
    """The checks that the lab's sabotage tests expect to fail: the keywords of their calls of `assert_red`."""
    calls = (node for file in LAB.glob("test_smoke*.py") for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    names = (word.arg for call in calls if isinstance(call.func, ast.Name) and call.func.id == "assert_red" for word in call.keywords)
    return {name.replace("__", ".").replace("_", "-") for name in names if name}


def test_every_check_is_seen_to_fail_by_a_test() -> None:
    assert {check.name for check in CHECKS} == turned_red()


def test_every_check_has_a_name_of_its_own_a_sentence_and_a_sabotage() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.proves and check.sabotage for check in CHECKS)


def test_every_component_that_runs_on_hosts_has_the_check_of_its_unit() -> None:
    assert {f"{component.name}.unit" for component in ALL if component.on} <= {check.name for check in CHECKS}


def test_every_check_belongs_to_a_component() -> None:
    assert {check.component for check in CHECKS} <= {"cluster", *(component.name for component in ALL)}
