"""The lab's SSH keys, all made on the operator's side: so known_hosts is right before a host has booted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from hardway.inventory import Host


def ensure(path: Path, comment: str) -> str:
    """The public key of a pair, which is made if it is missing."""
    if not path.exists():
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", part], check=True, stdin=subprocess.DEVNULL)
        part.with_name(part.name + ".pub").replace(path.with_name(path.name + ".pub"))
        part.replace(path)  # last: a pair is there if its private half is
    return path.with_name(path.name + ".pub").read_text().strip()


def known(text: str, keys: Iterable[tuple[Host, str]]) -> str:
    """The text of known_hosts with these hosts' lines put in place of whatever it said of them; other lines stay."""
    lines = {address(host): " ".join([address(host), *key.split()[:2]]) for host, key in keys}
    others = [line for line in text.splitlines() if not set(line.partition(" ")[0].split(",")) & lines.keys()]
    return "".join(f"{line}\n" for line in [*others, *lines.values()])


def address(host: Host) -> str:
    """A host as known_hosts names it."""
    return str(host.address) if host.ssh.listens == 22 else f"[{host.address}]:{host.ssh.listens}"


def write_known(path: Path, keys: Iterable[tuple[Host, str]]) -> None:
    """Write known_hosts, all of it or nothing."""
    before = path.read_text() if path.exists() else ""
    after = known(before, keys)
    if after != before:
        part = path.with_name(path.name + ".part")
        part.write_text(after)
        part.replace(path)
