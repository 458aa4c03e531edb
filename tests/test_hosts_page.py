"""docs/hosts.md: its inventories are inventories, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hardway.inventory import load

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "hosts.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=[text.split()[1] for text in EXAMPLES])
def test_an_example_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text(text)
    assert load(tmp_path / "inventory.yaml").on("controller")


def test_there_are_examples_and_the_tests_that_are_named() -> None:
    assert len(EXAMPLES) == 3
    assert all((ROOT / path).exists() for path in re.findall(r"tests/[a-z_/]+(?:\.py)?", PAGE))
