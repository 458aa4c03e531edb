"""What a lab needs: a fitting inventory, root with its capabilities, programs."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from hardway.errors import Finding, Mistake
from hardway.inventory import Inventory, Lab

PROGRAMS = {  # what must be there, and the package that has it
    "flock": "util-linux",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
OF_A_KIND: Mapping[str, Mapping[str, str]] = {
    "nspawn": {"nsenter": "util-linux", "systemd-nspawn": "systemd-container"},
    "qemu": {"mke2fs": "e2fsprogs", "qemu-system-x86_64": "qemu-system-x86"},
}
TUN = Path("/dev/net/tun")  # gives a VM its end of the wire
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}


def check(inventory: Inventory) -> None:
    """Refuse what cannot become a lab here."""
    named(inventory.cluster)
    privileged()
    _machine(frozenset(map(inventory.made_by, inventory.hosts)))
    cidr = inventory.networks.host_cidr
    if cidr is None:
        raise Mistake.at("networks.host_cidr", "the lab needs a network for its hosts", "add one, such as 10.240.0.0/24")
    gateway = cidr.network_address + 1
    findings = []
    for host in inventory.hosts:
        where = f"hosts.{host.name}"
        if host.address not in cidr or host.address in {cidr.network_address, cidr.broadcast_address}:
            findings.append(Finding(where=f"{where}.address", what=f"{host.address} is no address of {cidr}, the lab's network"))
        if host.address == gateway:
            findings.append(Finding(where=f"{where}.address", what=f"{gateway} is the lab's own, this machine's", next_step="take another"))
        if host.ssh.user not in {None, "root"}:
            findings.append(Finding(where=f"{where}.ssh.user", what="the lab's hosts are reached as root", next_step="leave it out"))
        if host.ssh.host:
            findings.append(Finding(where=f"{where}.ssh.host", what="the lab's hosts are dialled by address", next_step="leave it out"))
        if host.ssh.via:
            findings.append(Finding(where=f"{where}.ssh.via", what="the lab's hosts are reached directly", next_step="leave it out"))
    if findings:
        raise Mistake(*findings)


def _machine(kinds: frozenset[Lab]) -> None:
    wanted = PROGRAMS | {program: package for kind in kinds for program, package in OF_A_KIND[kind].items()}
    missing = {program: package for program, package in wanted.items() if not shutil.which(program)}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise Mistake(
            *(Finding(where="lab", what=f"{program} is missing", next_step=f"`apt-get install {packages}`") for program in sorted(missing))
        )
    if "qemu" in kinds and platform.machine() != "x86_64":
        raise Mistake.at("lab", f"VMs are made for x86_64 only, and this is {platform.machine()}", "take `lab: nspawn`")
    if "qemu" in kinds and not TUN.exists():
        raise Mistake.at("lab", f"there is no {TUN}, by which VMs reach the network", "`modprobe tun`, or take `lab: nspawn`")


def named(cluster: str) -> None:
    """Refuse a cluster's name that cannot become part of paths."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", cluster):
        raise Mistake.at("cluster", f"{cluster!r} is no DNS label", "use small letters, digits and dashes")


def privileged() -> None:
    """Refuse to go on without the rights that containers take."""
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    held = int(effective[1], 16) if effective else 0
    lacking = [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    if os.geteuid() != 0 or lacking:
        why = f"without {', '.join(lacking)}" if os.geteuid() == 0 else "without root"
        raise Mistake.at("lab", f"hosts cannot be made {why}", "run it as root on a machine of yours, or take `lab` out of the inventory")
