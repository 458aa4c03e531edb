"""One lab host's container: its directory, its keeper (host.sh), its control groups, its device."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hardway.lab import cgroups, network
from hardway.lab.machine import Lab, Machine, Process

KEEPER = Path(__file__).with_name("host.sh")
NSPAWN = Path("/run/systemd/nspawn")  # where systemd-nspawn keeps what a killed one leaves behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A host of a lab, running or not."""

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

    def start(self, address: str, root: Path, files: Mapping[str, tuple[str, int]], tell: Callable[[str], None]) -> None:
        """Boot from an image with these files (path -> text, mode) on top, unless it runs and has them."""
        kept = self.directory / "image"  # a host that was made from one image stays with it
        image = kept.readlink() if kept.is_symlink() and kept.exists() else root
        settings = {
            "image": str(image),
            "inode": str(image.stat().st_ino),  # the cache may have been emptied under a running host: it boots again
            "name": self.name,
            "dir": str(self.directory),
            "device": self.device,
            "mac": network.mac(self.lab.cluster, self.name),
            "bridge": network.device(self.lab.cluster),
            "address": address,
            "gateway": str(self.lab.network.network_address + 1),
            "record": str(self.record),
        }
        wanted = {f"files/{path}": file for path, file in files.items()} | {"settings.json": (json.dumps(settings), 0o600)}
        changed = {path for path, (text, mode) in wanted.items() if _write(self.directory / path, text, mode)}
        for private in ("files/root", "files/root/.ssh"):
            (self.directory / private).chmod(0o700)
        if self.keeper:
            if changed <= {"files/etc/hosts"}:
                if changed:
                    self._rename_neighbours()
                return
            tell(f"{self.name}: boots again, since what it was made with has changed")
        self.stop()  # also what is left when a keeper died alone
        for group in self.groups:
            cgroups.make(group)
        for name in ("upper", "work", "root", "containerd"):
            (self.directory / name).mkdir(mode=0o755, exist_ok=True)
        environment = settings | {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "cgroups": " ".join(map(str, self.groups)),
            "devices": " ".join(f"--bind={path}" for path in ("/dev/kmsg", "/dev/fuse") if Path(path).exists()),
        }
        self.record.write_text("")
        with (self.directory / "console.log").open("wb") as log:
            argv = ["setsid", "--fork", "sh", str(KEEPER), "keep"]  # in a session of its own, it outlives this command
            subprocess.run(argv, check=True, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self.record.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """End the host at once, as a power cut does."""
        cgroups.empty(self.groups)
        keeper, patience = self.keeper, time.monotonic() + 1
        while keeper and keeper.runs:  # it ends by itself, and buries nspawn; but not if a reboot came between
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

    def _rename_neighbours(self) -> None:
        """Give the running host its new /etc/hosts, through its first process's view of the file system."""
        for pid in cgroups.processes(self.groups[0]):
            namespaces = re.search(r"^NSpid:\s(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            if namespaces and namespaces[1].split()[1:] == ["1"]:
                Path(f"/proc/{pid}/root/etc/hosts").write_text((self.directory / "files/etc/hosts").read_text())


def _write(file: Path, text: str, mode: int) -> bool:
    """Whether the file had to be written."""
    if file.exists() and file.read_text() == text:
        return False
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    file.touch(mode=mode)
    file.write_text(text)
    return True
