"""A host that is a directory: the real host.sh in a real shell, with stand-ins for systemd's programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hardway.remote.machine import Machine

SYSTEMCTL = """#!/bin/sh
case $1 in
  --version) echo 'systemd 252 (252.39-1~deb12u2)'; exit ;;
  show)
    shift 4; first=yes
    for unit; do
      [ $first ] || echo; first=
      if [ -e "$HARDWAY_ROOT/units/$unit" ]; then cat "$HARDWAY_ROOT/units/$unit"; else
        printf '%s\\n' LoadState=not-found ActiveState=inactive SubState=dead UnitFileState= InvocationID= ActiveEnterTimestamp=
      fi
    done
    exit ;;
esac
echo "$*" >>"$HARDWAY_ROOT/log"
for unit; do :; done
[ ! -e "$HARDWAY_ROOT/broken/$unit" ] || { echo "Job for $unit failed." >&2; exit 1; }
"""
JOURNALCTL = "#!/bin/sh\necho 'listen tcp :2379: bind: address already in use'\necho 'giving up'\n"
SYSUSERS = '#!/bin/sh\necho "sysusers $(cat "$1")" >>"$HARDWAY_ROOT/log"\n'


@dataclass(slots=True)
class LocalChannel:
    """A process, as a Channel."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    left: int | None = None  # bytes after which the connection breaks

    def send(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data[: self.left])
        if self.left is not None:
            self.left -= min(self.left, len(data))
            if not self.left:
                self.process.stdin.close()
                raise ConnectionResetError("cut")

    def receive(self) -> bytes:
        assert self.process.stdout
        return os.read(self.process.stdout.fileno(), 1 << 16)

    def ready(self) -> None: ...

    def finish(self) -> tuple[int, str]:
        code = self.process.wait()
        self.errors.seek(0)
        return code, self.errors.read().decode()

    def close(self, *, wait: bool = True) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()
        if wait:
            self.process.wait()


@dataclass(slots=True, kw_only=True)
class FakeHost:
    """A directory as the root of a file system, and processes as channels into it."""

    base: Path
    noise: str = ""  # what a shell's start-up files say before us
    connects: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # bytes after which the connection breaks

    def __post_init__(self) -> None:
        for name in ("etc", "var/lib"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if (self.base / "bin").exists():
            return  # wiped, or copied
        self.program("systemctl", SYSTEMCTL)
        self.program("journalctl", JOURNALCTL)
        self.program("systemd-sysusers", SYSUSERS)
        # No test loses its power: nobody waits for the disk.
        (self.base / "bin" / "sync").symlink_to(shutil.which("true") or "/bin/true")

    @classmethod
    def copied(cls, base: Path, of: FakeHost) -> FakeHost:
        """Another one that carries the same; cheaper than to make it so again."""
        subprocess.run(["cp", "-a", f"{of.base}/.", base], check=True)
        return cls(base=base, environment=dict(of.environment))

    @property
    def root(self) -> Path:
        return self.base / "root"

    def program(self, name: str, text: str, folder: str = "bin") -> None:
        path = self.base / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def machine(self, shell: str = "dash") -> Machine:
        return Machine(name="c1", line=self, root=str(self.root), shell=shell)

    def execute(self, command: str, *, tty: bool = False) -> LocalChannel:
        assert not tty
        errors = (self.base / "errors").open("w+b")
        process = subprocess.Popen(
            ["sh", "-c", self.noise + command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PATH": f"{self.base / 'bin'}:{os.environ['PATH']}", **self.environment},
            start_new_session=True,
        )
        return LocalChannel(process, errors, self.cut)

    def dial(self, address: str, port: int) -> socket.socket:
        return socket.create_connection((address, port))

    def close(self) -> None: ...

    def path(self, path: object) -> Path:
        return Path(f"{self.root}{path}")

    def log(self) -> list[str]:
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []

    def unit(self, name: str, **shown: str) -> None:
        state = {
            "LoadState": "loaded",
            "ActiveState": "active",
            "SubState": "running",
            "UnitFileState": "enabled",
            "InvocationID": "f00d",
            "NRestarts": "2",
            "ActiveEnterTimestamp": "Tue 2026-11-24 20:00:00 UTC",
        } | shown
        (self.root / "units").mkdir(exist_ok=True)
        (self.root / "units" / name).write_text("".join(f"{key}={value}\n" for key, value in state.items()))

    def breaks(self, unit: str, *, mended: bool = False) -> None:
        (self.root / "broken").mkdir(exist_ok=True)
        (self.root / "broken" / unit).touch()
        if mended:
            (self.root / "broken" / unit).unlink()

    def tree(self) -> dict[str, tuple[int, int, bytes | None]]:
        """Every file and directory with its mode, mtime and content."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            stat = path.lstat()
            found[str(path.relative_to(self.root))] = (stat.st_mode, stat.st_mtime_ns, path.read_bytes() if path.is_file() else None)
        return found

    def leftovers(self) -> list[Path]:
        """What a change must not leave behind."""
        return [*self.root.rglob(".*.hardway"), *self.root.rglob(".*.new"), *self.root.glob("var/lib/hardway/txn")]

    def wipe(self) -> None:
        shutil.rmtree(self.root)
        self.__post_init__()
