"""check and test: what a change to the kit has to pass, here and in CI."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.verbs.program import console
from hardway.verbs.program.cli import ROOT, USAGE
from hardway.verbs.program.session import passthrough

PYTEST = ("pytest", "-c", str(ROOT / "pyproject.toml"))  # our settings, also for a test elsewhere
QUICK = ("-m", "not lab and not build and not full", "--numprocesses=auto", "--dist=loadfile")  # a file's fixtures are made once
DEFAULT = ("-m", "not full")


@task(auto_shortflags=False)
def check(c: Context) -> None:
    """Prove the tree in under a minute: ruff, mypy, quick tests."""
    steps = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy"],
        "quick tests": [*PYTEST, *QUICK],
    }
    failed = [name for name, argv in steps.items() if not _passes(name, argv)]
    if failed:
        raise Exit(f"{', '.join(failed)} failed", code=1)


@task(
    auto_shortflags=False,
    help={"quick": "without labs and builds: under a minute, no root", "full": "also kill points and the other Kubernetes version"},
)
def test(c: Context, quick: bool = False, full: bool = False) -> None:  # noqa: PT028 (a verb, no test)
    """Run the project's tests, as CI does; what follows -- goes to pytest."""
    if quick and full:
        raise Exit("test: --quick and --full are two different runs; take one", code=USAGE)
    chosen = QUICK if quick else () if full else DEFAULT
    if _python(*PYTEST, *chosen, "--durations=10", *passthrough(c)):
        raise Exit(code=1)  # pytest's summary stays the last line


def _passes(name: str, argv: Sequence[str]) -> bool:
    console.err(f"* {name}")
    began = time.monotonic()
    passed = _python(*argv) == 0
    console.err(f"* {name}: {'passed' if passed else 'failed'} after {time.monotonic() - began:.1f} s")
    return passed


def _python(*argv: str) -> int:
    return subprocess.run([sys.executable, "-m", *argv], cwd=ROOT, check=False).returncode
