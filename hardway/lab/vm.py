"""A lab host in QEMU: a kernel and a disk of its own, by KVM where that works, else by software.

The disk begins as a copy of the image's, and outlives reboots. What the provider gives to the host comes to it on a second one, which holds
no file system but a tar archive: the image's lab-files.service unpacks that before anything else starts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardway.lab.kvm import Accelerator
from hardway.lab.place import Files, Place

MEMORY = 2048  # MiB: what a worker of ours takes with the Pods of a smoke run
CPUS = 2
NETWORK = """\
[Match]
MACAddress={mac}
[Network]
Address={address}
Gateway={gateway}
IPv6AcceptRA=no
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VM:
    """What is made at a place from an image's disk, kernel and initrd."""

    place: Place
    image: Path
    accelerator: Accelerator
    login: list[str]  # the command that logs in to it

    def start(self, address: str, files: Files, tell: Callable[[str], None]) -> None:
        """Boot with these files on the disk, unless it runs and has them."""
        place = self.place
        network = NETWORK.format(mac=place.settings["mac"], address=address, gateway=place.lab.network.network_address + 1)
        settings = place.settings | {
            "kind": "qemu",
            "accelerator": self.accelerator,
            "memory": str(MEMORY),
            "cpus": str(min(CPUS, len(os.sched_getaffinity(0)))),
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{place.name}.{place.lab.cluster}")),
        }
        changed = place.put({**files, "etc/systemd/network/lab.network": (network, 0o644)}, settings)
        if place.keeper and not changed:
            return
        self._pack()
        if place.keeper and changed == {"etc/hosts"} and self._rename_neighbours():
            return
        if place.keeper:
            tell(f"{place.name}: boots again, since what it was made with has changed")
        place.stop()
        disks = place.directory / "vm"  # with the kernel: the modules that belong to it are on the disk
        if not disks.exists():
            part = disks.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run(["cp", "-r", "--sparse=always", "--reflink=auto", self.image, part], check=True)
            part.rename(disks)
        place.keep(settings)

    def _pack(self) -> None:
        """Write the second disk in place, padded to one size: a host that runs has it open, and reads it at its next boot."""
        argv = ["tar", "--create", "--file=files.tar", "--blocking-factor=2048", "--owner=0", "--group=0", "--directory=files", "."]
        subprocess.run(argv, check=True, cwd=self.place.directory)
        (self.place.directory / "files.tar").chmod(0o600)

    def _rename_neighbours(self) -> bool:
        """Whether the running host took its new /etc/hosts."""
        text = (self.place.directory / "files/etc/hosts").read_text()
        return subprocess.run([*self.login, "cat >/etc/hosts"], input=text, text=True, capture_output=True, check=False).returncode == 0
