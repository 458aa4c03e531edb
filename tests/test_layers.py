"""Imports point one way, each library has one home, and a module stays one noun."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A layer imports those above it; what shares a line does not import each other.
LAYERS = [
    {"errors"},
    {"waiting"},
    {"inventory"},
    {"observed"},
    {"desired"},
    {"state"},
    {"chronicle", "people", "pki", "pod_ranges"},
    {"components"},
    {"render"},
    {"plan", "preflight"},
    {"remote"},
    {"push", "proof"},
    {"restart"},
    {"certs", "keeping", "leaving", "rotate", "smoke", "snapshot", "status", "traffic"},
    {"verbs"},
    {"tasks"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ASIDE = {"lab": {"errors", "inventory"}, "binaries": {"errors", "inventory"}}  # of use to verbs only
HOMES = {
    "annotated_types": {"inventory"},
    "cryptography": {"pki"},
    "fabric": {"remote"},
    "h11": {"traffic"},
    "h2": {"traffic"},
    "httpcore2": {"remote"},
    "httpx2": {"binaries"},
    "invoke": {"verbs"},
    "jinja2": {"render"},
    "paramiko": {"remote"},
    "pydantic": {"inventory"},
    "pydantic_core": {"inventory"},
    "rich": {"verbs"},
    "ruamel": {"inventory"},
}
LINES, FILES = 300, 14
LISTS = {"components", "checks", "verbs"}  # a module for each component, or group of verbs: as many as there are
NO_NOUNS = {"util", "utils", "helpers", "common", "manager", "base", "misc"}


def violations(root: Path) -> list[str]:
    modules = [root / "tasks.py", *sorted((root / "hardway").rglob("*.py"))]
    return [line for module in modules for line in (*_imports(root, module), *_size(root, module))]


def _imports(root: Path, module: Path) -> Iterator[str]:
    name = _layer(module.relative_to(root))
    if name and name not in RANK and name not in ASIDE:
        yield f"{module.relative_to(root)}: {name} has no place in the layers"
        return
    for target in _imported(ast.parse(module.read_text())):
        head, *rest = target.split(".")
        if head == "hardway":
            if rest and not _may(name, rest[0]):
                yield f"{module.relative_to(root)}: {name} may not import {rest[0]}"
        elif head not in sys.stdlib_module_names and name not in HOMES.get(head, ()):
            yield f"{module.relative_to(root)}: {head} is not at home here"


def _layer(path: Path) -> str:
    parts = path.with_suffix("").parts
    return "" if parts == ("hardway", "__init__") else parts[0] if len(parts) == 1 else parts[1]


def _may(name: str, target: str) -> bool:
    if name == target:
        return True
    if name in ASIDE:
        return target in ASIDE[name]
    if target in ASIDE:
        return name in {"verbs", "tasks"}
    return target in RANK and RANK[target] < RANK.get(name, -1)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "hardway":  # from hardway import plan
                yield from (f"hardway.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def _size(root: Path, module: Path) -> Iterator[str]:
    where = module.relative_to(root)
    if (lines := len(module.read_text().splitlines())) > LINES:
        yield f"{where}: {lines} lines: a noun is missing"
    if module.stem in NO_NOUNS:
        yield f"{where}: {module.stem} is no noun of ours"
    if module.name == "__init__.py" and module.parent.name not in LISTS and (files := len(list(module.parent.glob("*.py")))) > FILES:
        yield f"{where.parent}: {files} files: a noun is missing"


def test_imports_point_one_way_and_modules_stay_small() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("hardway/errors.py", "import hardway.inventory", "errors may not import inventory"),
        ("hardway/plan.py", "from hardway.push import push", "plan may not import push"),
        ("hardway/plan.py", "from hardway import preflight", "plan may not import preflight"),
        ("hardway/smoke/run.py", "def f():\n    from hardway.certs import x", "smoke may not import certs"),
        ("hardway/push.py", "if 1:\n    import hardway.binaries.cache", "push may not import binaries"),
        ("hardway/lab/nspawn.py", "import hardway.desired", "lab may not import desired"),
        ("hardway/verbs/push.py", "import tasks", "tasks is not at home here"),
        ("hardway/push.py", "import jinja2", "jinja2 is not at home here"),
        ("hardway/push.py", "from requests.api import get", "requests is not at home here"),
        ("hardway/surprise.py", "", "surprise has no place in the layers"),
        ("hardway/push.py", "\n" * 301, "301 lines: a noun is missing"),
        ("hardway/verbs/utils.py", "", "utils is no noun of ours"),
    ],
)
def test_each_violation_is_found(tmp_path: Path, path: str, text: str, expected: str) -> None:
    (tmp_path / "tasks.py").write_text("from hardway.verbs import push\n")
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)

    assert violations(tmp_path) == [f"{path}: {expected}"]
