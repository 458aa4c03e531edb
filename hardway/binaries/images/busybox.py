"""The shell of images that need one: this machine's static busybox and the names that it answers to."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hardway.errors import Mistake

_MACHINES = {"amd64": 62, "arm64": 183}  # e_machine of an ELF header
_INTERPRETER = 3  # p_type of the program header that names a dynamic linker
_STEP = "`apt-get install busybox-static`, or its like"


@dataclass(frozen=True, slots=True, kw_only=True)
class Busybox:
    """One program, and the absolute paths at which it stands for others."""

    path: Path
    applets: tuple[str, ...]

    @classmethod
    def here(cls, arch: str, *, what: str) -> Busybox:
        """This machine's; a Mistake if it would not run in an image of that architecture."""
        if (found := shutil.which("busybox")) is None:
            raise Mistake.at(what, "needs busybox for its shell, and there is none", _STEP)
        path = Path(found)
        if (machine := _machine(path)) != _MACHINES[arch]:
            raise Mistake.at(
                what, f"{path} is not for {arch} (ELF machine {machine})", f"make it on a machine of {arch}, or set images: pull"
            )
        if _is_dynamic(path):
            raise Mistake.at(what, f"{path} needs libraries, and an image has none", _STEP)
        listed = subprocess.run([path, "--list-full"], check=False, capture_output=True, text=True).stdout.split()
        if "bin/sh" not in listed:
            raise Mistake.at(what, f"{path} has no list of its applets with bin/sh in it", _STEP)
        return cls(path=path, applets=tuple(f"/{applet}" for applet in listed))


def _machine(path: Path) -> int:
    head = _head(path)
    return int.from_bytes(head[18:20], "little") if head.startswith(b"\x7fELF") else 0


def _is_dynamic(path: Path) -> bool:
    """Whether one of an ELF file's program headers asks for a dynamic linker."""
    head = _head(path)
    (start,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    return any(struct.unpack_from("<I", head, start + i * size)[0] == _INTERPRETER for i in range(count))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)
