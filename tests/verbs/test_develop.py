import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "inv", "test", *argv], env=os.environ | {"CI": ""}, capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it told, but for the programs that this machine lacked until now."""
    return [line for line in done.stderr.splitlines() if not line.startswith("* installing ")]


test.__test__ = False  # type: ignore[attr-defined] # the verb, not a test


MARKED = "import pytest\ndef test_plain(): assert {passes}\n" + "".join(
    f"@pytest.mark.{mark}\ndef test_{mark}(): pass\n" for mark in ("lab", "build", "full")
)


def test_quick_leaves_labs_and_builds_out_and_the_last_line_is_pytests_summary(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(MARKED.format(passes=True))

    done = test("--quick", "--", str(tmp_path), "-k", "plain or lab or build")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 passed in ")
    assert said(done) == []


def test_a_failed_test_is_exit_code_1_and_nothing_follows_the_summary(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(MARKED.format(passes=False))

    done = test("--", str(tmp_path))

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("1 failed, 2 passed, 1 deselected")
    assert said(done) == []


def test_quick_and_full_at_once_are_wrong_usage() -> None:
    done = test("--quick", "--full")

    assert done.returncode == 64
    assert done.stderr == "error: test: --quick and --full are two different runs; take one\n"
