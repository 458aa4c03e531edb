"""Builds from Go modules: the same bytes each time, for any architecture."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hardway.binaries.c import Toolchain
from hardway.binaries.source import LDFLAGS, Source, compiler, environment, go
from hardway.errors import Mistake

ALIVE = 15.0  # seconds between two signs of life


@dataclass(slots=True)
class _Narration:
    """What `go build -v` says: a line for each package, and errors."""

    packages: int = 0
    other: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def follow(self, stream: IO[str]) -> None:
        for line in stream:
            # A package path has no blanks; compilers' lines and `go: …` have.
            if " " in line.strip():
                self.other.append(line.strip())
            else:
                self.packages += 1


@dataclass(frozen=True, slots=True)
class Built:
    """A program in the scratch folder, and a line on where it comes from."""

    path: Path
    origin: str


def build(source: Source, programs: Sequence[str], arch: str, scratch: Path, tell: Callable[[str], None]) -> dict[str, Built]:
    """Build programs into a scratch folder, those of Go in one `go build`."""
    name = f"{source.project.name} {source.version}"
    release = compiler(source.upstream)
    _check_disk(source, scratch)
    env = environment(arch)
    of_c = [program for program in programs if source.project.is_c(program)]
    toolchain = Toolchain.of(arch)
    if source.project.cgo or of_c:
        toolchain.check(source.project.cgo, what=name)
    if source.project.cgo:
        env |= toolchain.environment
    source.derive(tell)
    tell(f"{name}: building {', '.join(programs)} for {arch} from {source.module} with {release}")
    out = scratch / "go-build"
    out.mkdir()
    made = {
        program: Built(
            toolchain.compile(source.file(program), out / program, version=source.version), f"{toolchain.compiler} build of {source.module}"
        )
        for program in of_c
    }
    if of_go := [program for program in programs if program not in of_c]:
        packages = [source.project.programs[program] for program in of_go]
        _go_build(["go", "build", "-v", *_flags(source), "-o", f"{out}/", *packages], source.folder, env, name, tell)
        origin = f"Go build of {source.module}, {release}"
        made |= {program: Built(out / _built_name(package), origin) for program, package in zip(of_go, packages, strict=True)}
    return made


def _flags(source: Source) -> list[str]:
    ldflags = [LDFLAGS, *(f"-X {variable}={value}" for variable, value in source.stamps().items())]
    if source.project.cgo:
        ldflags.append("-extldflags -static")
    tags = ["-tags", ",".join(source.project.tags)] if source.project.tags else []
    return [*tags, "-ldflags", " ".join(ldflags)]


def _go_build(argv: list[str], folder: Path, env: dict[str, str], name: str, tell: Callable[[str], None]) -> None:
    """One `go build` to its end, with a sign of life now and then."""
    began = time.monotonic()
    narration = _Narration()
    with subprocess.Popen(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        reader = threading.Thread(target=narration.follow, args=(process.stderr,), daemon=True)
        reader.start()
        try:
            while (code := _waited(process)) is None:
                tell(f"{name}: {narration.packages} packages compiled, {time.monotonic() - began:.0f} s")
        except BaseException:
            process.terminate()
            raise
        reader.join()
    if code:
        raise Mistake.at(
            f"go build of {name}", " ".join([*narration.other][-5:]) or f"exit code {code}", "run the same again: it goes on from there"
        )
    tell(f"{name}: built in {time.monotonic() - began:.0f} s, {narration.packages} packages compiled")


def _waited(process: subprocess.Popen[str]) -> int | None:
    try:
        return process.wait(timeout=ALIVE)
    except subprocess.TimeoutExpired:
        return None


def _built_name(package: str) -> str:
    """How `go build` names the program of a package: the last part of its path that is no major version."""
    *rest, last = package.split("/")
    return rest[-1] if last[0] == "v" and last[1:].isdigit() else last


def _check_disk(source: Source, scratch: Path) -> None:
    go_cache = Path(go("env", "GOCACHE", cwd=scratch).strip())
    while not go_cache.exists():
        go_cache = go_cache.parent
    if (free := shutil.disk_usage(go_cache).free) < source.project.disk:
        raise Mistake.at(
            str(go_cache),
            f"{free / 1e9:.1f} GB are free, a build of {source.project.name} may write {source.project.disk / 1e9:.1f} GB",
            "free some, or set GOCACHE to a larger disk",
        )
