import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "inv", "test", *argv], env=os.environ | {"CI": ""}, capture_output=True, text=True, check=False)


test.__test__ = False  # type: ignore[attr-defined] # the verb, not a test


def test_the_last_line_is_pytests_summary(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_a(): pass\ndef test_b(): pass\n")

    done = test("--quick", "--", str(tmp_path), "-k", "test_a or nothing")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 passed, 1 deselected")
    assert done.stderr == ""


def test_a_failed_test_is_exit_code_1_and_nothing_follows_the_summary(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_a(): assert False\n")

    done = test("--quick", "--", str(tmp_path))

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("1 failed")
    assert done.stderr == ""


def test_marks_decide_what_runs(tmp_path: Path) -> None:
    marked = "import pytest\ndef test_plain(): pass\n" + "".join(
        f"@pytest.mark.{mark}\ndef test_{mark}(): pass\n" for mark in ("lab", "build", "full")
    )
    (tmp_path / "test_it.py").write_text(marked)
    last = {argv: test(*argv, "--", str(tmp_path)).stdout.splitlines()[-1] for argv in [("--quick",), (), ("--full",)]}

    assert last["--quick",].startswith("1 passed, 3 deselected")
    assert last[()].startswith("3 passed, 1 deselected")
    assert last["--full",].startswith("4 passed in")


def test_quick_and_full_at_once_are_wrong_usage() -> None:
    done = test("--quick", "--full")

    assert done.returncode == 64
    assert done.stderr == "error: test: --quick and --full are two different runs; take one\n"
