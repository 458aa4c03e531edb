from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.lab import image
from hardway.lab.recipes import CONTAINER, VM

DEBIAN = """\
Types: deb
# http://snapshot.example/archive/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://vendor.example/node
Suites: nodistro
Components: main
"""


def test_of_this_machines_sources_only_the_archive_of_the_image_is_used() -> None:
    found = image.sources(
        {
            "/etc/apt/sources.list": "# deb http://old.example bookworm main\ndeb http://mirror.example/debian bookworm main contrib\n",
            "/etc/apt/sources.list.d/debian.sources": DEBIAN,
            "/etc/apt/sources.list.d/vendor.list": "deb https://vendor.example/apt bookworm stable\n",
        }
    )

    assert set(found) == {"/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"}
    assert found["/etc/apt/sources.list"] == "deb http://mirror.example/debian bookworm main contrib\n"
    assert "URIs: http://mirror.example/debian\n" in found["/etc/apt/sources.list.d/debian.sources"]
    assert "vendor" not in found["/etc/apt/sources.list.d/debian.sources"]


def test_a_machine_of_another_release_leaves_the_choice_to_mmdebstrap() -> None:
    assert image.sources({"/etc/apt/sources.list": "deb http://mirror.example/debian trixie main\n"}) == {}


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that a test gives a body: the real one takes half a minute."""
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def behave(program: Path, body: str) -> None:
    program.write_text(f"#!/bin/sh\nfor word; do case $word in *.part) target=$word ;; esac; done\n{body}\n")
    program.chmod(0o755)


@pytest.mark.lab
def test_an_image_that_cannot_be_made_is_told_in_one_line_and_made_by_the_next_run(tmp_path: Path, mmdebstrap: Path) -> None:
    said: list[str] = []
    behave(mmdebstrap, 'mkdir -p "$target/half"; echo "I: downloading" >&2; echo "E: no route to the archive" >&2; exit 25')
    with pytest.raises(Mistake, match=r"^lab: mmdebstrap failed: E: no route to the archive; see that apt's sources answer") as raised:
        image.ensure(CONTAINER, tmp_path / "cache", said.append)
    assert "\n" not in str(raised.value)
    assert "lab: image: downloading" in said

    behave(mmdebstrap, 'mkdir "$target" "$target/whole"')
    made = image.ensure(CONTAINER, tmp_path / "cache", said.append)

    assert [file.name for file in made.iterdir()] == ["whole"]
    behave(mmdebstrap, "exit 1")
    assert image.ensure(CONTAINER, tmp_path / "cache", said.append) == made


@pytest.mark.lab
def test_the_image_of_vms_is_a_disk_with_its_kernel(tmp_path: Path, mmdebstrap: Path) -> None:
    behave(
        mmdebstrap,
        """
for word; do case $word in *.part/root) target=$word ;; esac; done
mkdir -p "$target/boot" "$target/etc"; cd "$target"
echo kernel >boot/vmlinuz-6.1; echo drivers >boot/initrd.img-6.1; echo found >etc/file""",
    )

    made = image.ensure(VM, tmp_path / "cache", print)

    assert sorted(file.name for file in made.iterdir()) == ["disk", "initrd", "vmlinuz"]
    assert (made / "vmlinuz").read_text() == "kernel\n"
    read = subprocess.run(["debugfs", "-R", "cat /etc/file", made / "disk"], capture_output=True, text=True, check=True)
    assert read.stdout == "found\n"
    assert (made / "disk").stat().st_size == 8 << 30
    assert (made / "disk").stat().st_blocks * 512 < 1 << 30


@pytest.mark.lab
def test_an_image_whose_maker_is_killed_stops_growing(tmp_path: Path, mmdebstrap: Path) -> None:
    behave(mmdebstrap, f'mkdir "$target"; exec 9>{tmp_path}/alive; flock 9; : >"$target/begun"; sleep 1000')
    program = (
        "import sys; from pathlib import Path; from hardway.lab import image, recipes; "
        "image.ensure(recipes.CONTAINER, Path(sys.argv[1]), print)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "cache")], cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").glob("*.part/begun")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.kill()
    child.wait()

    with (tmp_path / "alive").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its last process is gone; a pytest that hangs here has found the fault
