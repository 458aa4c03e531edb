"""What all labs share on the machine that runs them: the register of labs and the kernel settings to put back."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path

RUN = Path("/run/hardway-lab")  # gone after a reboot of the machine, as is all that it tells of

# Not kept apart by namespaces, and set by a kubelet or by the sysctl.d files of a lab host:
# https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/component-helpers/node/util/sysctl/sysctl.go
SETTINGS = (
    "fs/aio-max-nr",
    "fs/file-max",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "fs/nr_open",
    "fs/protected_fifos",
    "fs/protected_hardlinks",
    "fs/protected_regular",
    "fs/protected_symlinks",
    "kernel/core_pattern",
    "kernel/core_uses_pid",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/pid_max",
    "kernel/printk",
    "kernel/sysrq",
    "kernel/unprivileged_userns_clone",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/ip_forward",
    "vm/max_map_count",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "vm/swappiness",
)

# Counted for all hosts together: with the usual 128 a dozen of them cannot start their systemd.
LEAST = {"fs/inotify/max_user_instances": 8192, "fs/inotify/max_user_watches": 1048576}


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that no later one with the same number is taken for."""

    pid: int
    start: int  # in clock ticks since the machine's boot

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process of that number, if it runs."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid=pid, start=int(fields[19]))

    @classmethod
    def recorded(cls, file: Path) -> Process | None:
        """The process that wrote its number and start into a file, if it still runs."""
        try:
            pid, start = map(int, file.read_text().split())
        except (OSError, ValueError):
            return None
        process = cls(pid=pid, start=start)
        return process if process.runs else None

    @property
    def runs(self) -> bool:
        return Process.of(self.pid) == self

    def kill(self) -> None:
        """End it at once, unless it has ended by itself, which may be at this moment."""
        if self.runs:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One lab as the register has it."""

    cluster: str
    state: Path
    network: IPv4Network
    cgroups: tuple[Path, ...]  # one of the lab's own in each hierarchy
    owner: Process | None = None  # the lab may be reaped when this process is gone

    def dump(self) -> str:
        """The lab as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def load(cls, text: str) -> Lab:
        """The lab that `dump` wrote."""
        raw = json.loads(text)
        return cls(
            cluster=raw["cluster"],
            state=Path(raw["state"]),
            network=IPv4Network(raw["network"]),
            cgroups=tuple(map(Path, raw["cgroups"])),
            owner=Process(**raw["owner"]) if raw["owner"] else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The register of labs; where it and the kernel settings lie is an argument."""

    run: Path = RUN
    sysctl: Path = Path("/proc/sys")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other lab enters or leaves meanwhile."""
        while (descriptor := self._lock()) is None:
            continue  # the last lab left just now, and took the directory along
        try:
            yield
        finally:
            os.close(descriptor)

    def records(self, cluster: str) -> Path:
        """The directory in which each host's keeper writes its process."""
        return self.run / cluster

    def labs(self) -> tuple[Lab, ...]:
        """Every lab that is up or half up."""
        return tuple(Lab.load(file.read_text()) for file in sorted(self.run.glob("*/lab.json")))

    def lab(self, cluster: str) -> Lab | None:
        """The lab of a cluster."""
        return next((lab for lab in self.labs() if lab.cluster == cluster), None)

    def enter(self, lab: Lab) -> None:
        """Write a lab down, and before the first the kernel settings as they are; then raise what is too low for hosts."""
        saved = self.run / "settings.json"
        if not saved.exists():
            _replace(saved, json.dumps({name: value for name in SETTINGS if (value := self._read(name)) is not None}))
        self.records(lab.cluster).mkdir(mode=0o700, exist_ok=True)
        _replace(self.records(lab.cluster) / "lab.json", lab.dump())
        for name, least in LEAST.items():
            value = self._read(name)
            if value is not None and int(value) < least:
                (self.sysctl / name).write_text(f"{least}\n")

    def leave(self, cluster: str) -> tuple[str, ...]:
        """Strike a lab off; after the last, put the kernel settings back and tell which had changed."""
        directory = self.records(cluster)
        if directory.is_dir():
            for file in sorted(directory.iterdir(), key=lambda file: file.name == "lab.json"):
                file.unlink()
            directory.rmdir()
        if self.labs():
            return ()
        saved, restored = self.run / "settings.json", []
        for name, value in (json.loads(saved.read_text()) if saved.exists() else {}).items():
            if self._read(name) != value:
                (self.sysctl / name).write_text(value)
                restored.append(name.replace("/", "."))
        saved.unlink(missing_ok=True)
        for leftover in self.run.iterdir():
            leftover.rmdir() if leftover.is_dir() else leftover.unlink()
        self.run.rmdir()
        return tuple(restored)

    def _lock(self) -> int | None:
        with suppress(FileExistsError):
            self.run.mkdir(mode=0o700)
        try:
            descriptor = os.open(self.run, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # it is still there
            return descriptor
        os.close(descriptor)
        return None

    def _read(self, name: str) -> str | None:
        try:
            return (self.sysctl / name).read_text()
        except OSError:
            return None  # this kernel has no such setting


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
