"""The C compiler, for the few programs that have C in them."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardway.errors import Mistake

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Without symbols and build id: the same bytes wherever they are made by the same compiler.
_FLAGS = ("-Os", "-Wall", "-static", "-s", "-Wl,--build-id=none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """A compiler for one architecture, who tells it where libraries are, and Debian's packages of both."""

    compiler: str
    pkg_config: str
    packages: tuple[str, ...]
    suffix: str  # of a library's package

    @classmethod
    def of(cls, arch: str) -> Toolchain:
        """This machine's own for its own architecture, else a cross compiler by Debian's names."""
        machine = _MACHINES[arch]
        if machine == platform.machine():
            return cls(compiler="gcc", pkg_config="pkg-config", packages=("gcc", "libc6-dev", "pkg-config"), suffix="-dev")
        prefix = f"{machine}-linux-gnu-"
        packages = (f"gcc-{machine.replace('_', '-')}-linux-gnu", f"pkg-config:{arch}")
        return cls(compiler=f"{prefix}gcc", pkg_config=f"{prefix}pkg-config", packages=packages, suffix=f"-dev:{arch}")

    @property
    def environment(self) -> dict[str, str]:
        """What `go build` has to know of it."""
        return {"CGO_ENABLED": "1", "CC": self.compiler, "PKG_CONFIG": self.pkg_config}

    def check(self, libraries: Sequence[str], *, what: str) -> None:
        """Refuse to begin without the compiler or a library."""
        missing = [program for program in (self.compiler, self.pkg_config) if shutil.which(program) is None]
        if self.pkg_config not in missing:
            missing += [library for library in libraries if not self._has(library)]
        if missing:
            packages = " ".join([*self.packages, *(f"{library}{self.suffix}" for library in libraries)])
            raise Mistake.at(what, f"has C in it, and to build it {', '.join(missing)} is missing", f"`apt-get install {packages}`")

    def compile(self, source: Path, program: Path, *, version: str) -> Path:
        """A static program of one C file."""
        argv = [self.compiler, *_FLAGS, f"-DVERSION=v{version}", "-o", str(program), source.name]
        done = subprocess.run(argv, cwd=source.parent, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Mistake.at(f"{self.compiler} {source.name}", done.stderr.strip().splitlines()[-1], f"look at {source}")
        return program

    def _has(self, library: str) -> bool:
        return subprocess.run([self.pkg_config, "--exists", library], check=False, capture_output=True).returncode == 0
