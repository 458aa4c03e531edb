"""docs/faults.md has every fault and every test of one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import table

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "faults.md"


def test_the_page_has_every_fault_and_every_test_and_no_test_that_is_gone() -> None:
    text = PAGE.read_text()
    assert [int(number) for number in re.findall(r"^\| ([0-9]+) \|", text, re.MULTILINE)] == list(range(1, 41))
    assert list(table.FAULTS) == list(range(1, 41))
    tests = table.named(path.read_text() for path in (*HERE.glob("test_*.py"), *(HERE.parent / "lab").glob("test_*.py")))
    assert set(re.findall(r"`(test_fault_\w+)`", text)) == tests
    assert text.startswith(table.HEAD)


def test_a_verdict_is_what_the_tests_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAULTS", {**table.FAULTS, 21: replace(table.FAULTS[21], lacks="half of it")})

    def verdicts(*cases: str) -> dict[int, str]:
        junit = f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"
        return {int(row.split(" | ")[0][2:]): row.split(" | ")[3] for row in table.rows(table.results(junit))}

    def case(name: str, end: str = "") -> str:
        return f'<testcase name="{name}">{f"<{end}/>" if end else ""}</testcase>'

    passed = verdicts(case("test_fault_04_a"), case("test_fault_21_a"), case("test_other"))
    assert (passed[4], passed[5]) == ("yes", "**no**: no test yet")
    assert passed[21] == "part: half of it"
    assert verdicts(case("test_fault_04_a[x]"), case("test_fault_04_a[y]", "failure"))[4] == "**no**: its test fails"
    assert verdicts(case("test_fault_04_a", "skipped"))[4] == "**no**: its test was skipped in this run"
