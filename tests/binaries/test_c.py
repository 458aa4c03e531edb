"""The C compiler: what is missing is said before anything is built; a program comes out static and the same twice."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from hardway.binaries.c import Toolchain
from hardway.errors import Mistake
from tests.binaries.release_site import Operator

HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


@pytest.mark.usefixtures("no_go")
def test_a_machine_without_a_compiler_is_told_what_to_install() -> None:
    with pytest.raises(Mistake) as caught:
        Toolchain.of(HERE).check(["libseccomp"], what="runc 1.5.2")

    assert str(caught.value) == (
        "runc 1.5.2: has C in it, and to build it gcc, pkg-config is missing; `apt-get install gcc libc6-dev pkg-config libseccomp-dev`"
    )


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, exit_code in (("gcc", 0), ("pkg-config", 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {exit_code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(Mistake, match="to build it libseccomp is missing"):
        Toolchain.of(HERE).check(["libseccomp"], what="runc 1.5.2")


@pytest.mark.usefixtures("no_go")
@pytest.mark.parametrize(("arch", "compiler"), [("arm64", "gcc-aarch64-linux-gnu"), ("amd64", "gcc-x86-64-linux-gnu")])
def test_another_architecture_asks_for_its_cross_compiler(arch: str, compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64" if arch == "amd64" else "x86_64")

    with pytest.raises(Mistake, match=rf"`apt-get install {compiler} pkg-config:{arch} libseccomp-dev:{arch}`"):
        Toolchain.of(arch).check(["libseccomp"], what="runc 1.5.2")


def test_a_compiled_program_is_static_and_the_same_in_another_folder(tmp_path: Path) -> None:
    made = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        source = tmp_path / folder / "hello.c"
        source.write_text("#include <stdio.h>\n#define S(x) #x\n#define V(x) S(x)\nint main(void) { return puts(V(VERSION)) < 0; }\n")
        made.append(Toolchain.of(HERE).compile(source, tmp_path / folder / "hello", version="1.2.3"))

    assert subprocess.run([made[0]], check=True, capture_output=True, text=True).stdout == "v1.2.3\n"
    assert made[0].read_bytes() == made[1].read_bytes()
    assert b"ld-linux" not in made[0].read_bytes()[:4096]


def test_a_broken_c_file_is_a_mistake_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.c").write_text("int main(\n")

    with pytest.raises(Mistake, match=r"^gcc broken\.c: .*; look at .*broken\.c$"):
        Toolchain.of(HERE).compile(tmp_path / "broken.c", tmp_path / "broken", version="1")


@pytest.mark.build
def test_runc_and_pause_are_static_and_tell_their_versions(operator: Operator) -> None:
    brought = operator.bring("runc", "pause", arch=HERE, inventory=operator.inventory("build"))

    said = {name: subprocess.run([one.path, "-v"], check=True, capture_output=True, text=True).stdout for name, one in brought.items()}
    assert "runc version 1.5.2\n" in said["runc"]
    assert "libseccomp: " in said["runc"]
    assert said["pause"] == "pause.c v1.37.2\n"
    assert brought["pause"].origin == "gcc build of k8s.io/kubernetes@v1.37.2"
    for one in brought.values():
        assert b"ld-linux" not in one.path.read_bytes()[:4096]
