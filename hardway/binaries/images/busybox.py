"""The shell of images that need one: a static busybox and the names that it answers to."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hardway.errors import Mistake

_MACHINES = {"amd64": 62, "arm64": 183}  # e_machine of an ELF header
_INTERPRETER = 3  # p_type of the program header that names a dynamic linker
_PACKAGE = "busybox-static"
_STEP = f"`apt-get install {_PACKAGE}`, or its like"


@dataclass(frozen=True, slots=True, kw_only=True)
class Busybox:
    """One program, and the absolute paths at which it stands for others."""

    path: Path
    applets: tuple[str, ...]

    @classmethod
    def here(cls, arch: str, scratch: Path, *, what: str) -> Busybox:
        """This machine's, or that of Debian's package unpacked into `scratch`; a Mistake if neither would run in an image.

        The package is not installed: it would take the place of another busybox that the machine has.
        """
        own = Path(found) if (found := shutil.which("busybox")) else None
        path = own if own and not _is_dynamic(own) else _unpacked(scratch)
        if path is None:
            lacking = f"{own} needs libraries, and an image has none" if own else "needs busybox for its shell, and there is none"
            raise Mistake.at(what, lacking, _STEP)
        if (machine := _machine(path)) != _MACHINES[arch]:
            raise Mistake.at(
                what, f"{path} is not for {arch} (ELF machine {machine})", f"make it on a machine of {arch}, or set images: pull"
            )
        listed = subprocess.run([path, "--list-full"], check=False, capture_output=True, text=True).stdout.split()
        if "bin/sh" not in listed:
            raise Mistake.at(what, f"{path} has no list of its applets with bin/sh in it", _STEP)
        return cls(path=path, applets=tuple(f"/{applet}" for applet in listed))


def _unpacked(scratch: Path) -> Path | None:
    """The program of Debian's package; None where no apt brings one."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    brought = subprocess.run(["apt-get", "download", _PACKAGE], cwd=scratch, capture_output=True, check=False)
    if brought.returncode or not (packages := list(scratch.glob(f"{_PACKAGE}_*.deb"))):
        return None
    unpacked = scratch / _PACKAGE
    subprocess.run(["dpkg-deb", "--extract", packages[0], unpacked], capture_output=True, check=True)
    return next((path for path in (unpacked / "bin/busybox", unpacked / "usr/bin/busybox") if path.exists()), None)


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
