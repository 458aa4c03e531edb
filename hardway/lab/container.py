"""A lab host in systemd-nspawn: this machine's kernel, a namespace and a root file system of its own over the image's."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardway.lab import cgroups
from hardway.lab.place import Files, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What is made at a place from the directory that an image is."""

    place: Place
    image: Path

    def start(self, address: str, files: Files, tell: Callable[[str], None]) -> None:
        """Boot with these files on top of the image, unless it runs and has them."""
        place = self.place
        kept = place.directory / "image"  # a host that was made from one image stays with it
        image = kept.readlink() if kept.is_symlink() and kept.exists() else self.image
        settings = place.settings | {
            "kind": "nspawn",
            "image": str(image),
            "inode": str(image.stat().st_ino),  # the cache may have been emptied under a running host: it boots again
            "address": address,
            "gateway": str(place.lab.network.network_address + 1),
        }
        changed = place.put(files, settings)
        if place.keeper and changed <= {"etc/hosts"}:
            if changed:
                self._rename_neighbours()
            return
        if place.keeper:
            tell(f"{place.name}: boots again, since what it was made with has changed")
        place.stop()
        for name in ("upper", "work", "root", "containerd"):
            (place.directory / name).mkdir(mode=0o755, exist_ok=True)
        devices = " ".join(f"--bind={path}" for path in ("/dev/kmsg", "/dev/fuse") if Path(path).exists())
        place.keep(settings | {"devices": devices})

    def _rename_neighbours(self) -> None:
        """Give the running host its new /etc/hosts, through its first process's view of the file system."""
        for pid in cgroups.processes(self.place.groups[0]):
            namespaces = re.search(r"^NSpid:\s(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
            if namespaces and namespaces[1].split()[1:] == ["1"]:
                Path(f"/proc/{pid}/root/etc/hosts").write_text((self.place.directory / "files/etc/hosts").read_text())
