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


def build(source: Source, programs: Sequence[str], arch: str, scratch: Path, tell: Callable[[str], None]) -> tuple[dict[str, Path], str]:
    """Build programs into a scratch folder in one `go build`; gives their files, and a line on where they come from."""
    name = f"{source.project.name} {source.version}"
    release = compiler(source.upstream)
    _check_disk(source, scratch)
    source.derive(tell)
    tell(f"{name}: building {', '.join(programs)} for {arch} from {source.module} with {release}")
    ldflags = " ".join([LDFLAGS, *(f"-X {variable}={value}" for variable, value in source.stamps().items())])
    packages = [source.project.programs[program] for program in programs]
    out = scratch / "go-build"
    out.mkdir()
    began = time.monotonic()
    argv = ["go", "build", "-v", "-ldflags", ldflags, "-o", f"{out}/", *packages]
    narration = _Narration()
    with subprocess.Popen(
        argv, cwd=source.folder, env=environment(arch), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
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
    return {program: out / _built_name(source.project.programs[program]) for program in programs}, f"Go build of {source.module}, {release}"


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
