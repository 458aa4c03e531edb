import subprocess
import sys
from pathlib import Path

import pytest

SKIPPED = """\
import pytest

@pytest.mark.lab
@pytest.mark.skipif(True, reason="no root")
def test_by_mark():
    pass

@pytest.mark.lab
def test_by_hand():
    pytest.skip("no root")

def test_elsewhere():
    pytest.skip("no lab")
"""


@pytest.mark.parametrize(("ci", "code", "summary"), [("true", 1, "1 failed, 1 skipped, 1 error"), ("false", 0, "3 skipped")])
def test_a_skipped_lab_test_fails_the_run_only_in_ci(tmp_path: Path, ci: str, code: int, summary: str) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = lab: x\n")
    (tmp_path / "test_it.py").write_text(SKIPPED)

    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(argv, cwd=tmp_path, env={"CI": ci, "PATH": ""}, capture_output=True, text=True, check=False)

    assert done.returncode == code, done.stdout
    assert done.stdout.splitlines()[-1].startswith(summary)
