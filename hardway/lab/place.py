"""Where one host of a lab lives on this machine: its directory, its keeper (host.sh), its control groups, its device."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardway.lab import cgroups, network
from hardway.lab.machine import Lab, Machine, Process

KEEPER = Path(__file__).with_name("host.sh")
NSPAWN = Path("/run/systemd/nspawn")  # where systemd-nspawn keeps what a killed one leaves behind
Files = Mapping[str, tuple[str, int]]  # what a host is given: path -> text and mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The same for a container and for a virtual machine, running or not."""

    lab: Lab
    name: str

    @property
    def directory(self) -> Path:
        """Its disk, the files that a boot puts on it, its console's log."""
        return self.lab.state / "lab" / "hosts" / self.name

    @property
    def device(self) -> str:
        """Its end of the wire on this machine, and its name for systemd-nspawn."""
        return network.device(self.lab.cluster, self.name)

    @property
    def groups(self) -> tuple[Path, ...]:
        return tuple(group / self.name for group in self.lab.cgroups)

    @property
    def record(self) -> Path:
        """Where the keeper writes who it is."""
        return Machine().records(self.lab.cluster) / self.name

    @property
    def keeper(self) -> Process | None:
        """The process that boots the host, if it runs."""
        return Process.recorded(self.record)

    @property
    def settings(self) -> dict[str, str]:
        """What host.sh has to know of any host."""
        return {
            "name": self.name,
            "dir": str(self.directory),
            "device": self.device,
            "mac": network.mac(self.lab.cluster, self.name),
            "bridge": network.device(self.lab.cluster),
            "record": str(self.record),
        }

    def put(self, files: Files, settings: Mapping[str, str]) -> frozenset[str]:
        """Write down what the host is made with; which of it is new, by its path on the host, or `settings`."""
        wanted = {f"files/{path}": file for path, file in files.items()} | {"settings.json": (json.dumps(settings), 0o600)}
        changed = {path for path, (text, mode) in wanted.items() if _write(self.directory / path, text, mode)}
        for private in ("files/root", "files/root/.ssh"):
            (self.directory / private).chmod(0o700)
        return frozenset(path.removeprefix("files/") for path in changed)

    def keep(self, settings: Mapping[str, str]) -> None:
        """Start the keeper, which boots the host."""
        for group in self.groups:
            cgroups.make(group)
        environment = {
            **settings,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "cgroups": " ".join(map(str, self.groups)),
        }
        self.record.write_text("")
        with (self.directory / "console.log").open("wb") as log:
            argv = ["setsid", "--fork", "sh", str(KEEPER), "keep"]  # in a session of its own, it outlives this command
            subprocess.run(argv, check=True, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self.record.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """End the host at once, as a power cut does, and what is left when a keeper died alone."""
        cgroups.empty(self.groups)
        keeper, patience = self.keeper, time.monotonic() + 1
        while keeper and keeper.runs:  # it ends by itself, and buries its child; but not if a reboot came between
            if time.monotonic() > patience:
                keeper.kill()
            time.sleep(0.01)
        cgroups.empty(self.groups)
        network.remove(self.device)
        shutil.rmtree(NSPAWN / "propagate" / self.device, ignore_errors=True)
        inode = self.directory / "inode"
        if inode.exists():
            (NSPAWN / "locks" / f"inode-{inode.read_text().strip()}").unlink(missing_ok=True)
        for group in self.groups:
            cgroups.remove(group)

    def attach(self) -> None:
        """Plug a running host into its bridge, which may be a new one."""
        if network.exists(self.device):
            network.ip("link", "set", self.device, "master", network.device(self.lab.cluster))


def _write(file: Path, text: str, mode: int) -> bool:
    """Whether the file had to be written."""
    if file.exists() and file.read_text() == text:
        return False
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    file.touch(mode=mode)
    file.write_text(text)
    return True
