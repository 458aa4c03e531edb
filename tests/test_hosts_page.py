"""docs/hosts.md and docs/lab.md: their inventories are inventories, and what they name is there."""

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


def test_the_labs_example_is_a_cluster_of_both_kinds(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "lab.md").read_text(), re.DOTALL)
    (tmp_path / "inventory.yaml").write_text(text)
    inventory = load(tmp_path / "inventory.yaml")
    assert {host.name: inventory.made_by(host) for host in inventory.hosts} == {"controller-1": "nspawn", "worker-1": "qemu"}
