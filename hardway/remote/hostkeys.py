"""The host keys that are known: compared with what a host shows, and recorded in state/<cluster>/known_hosts (9)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import paramiko

from hardway.errors import Mistake
from hardway.inventory import Host

SYSTEM = Path("~/.ssh/known_hosts").expanduser()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """What a host shows, and whether that is what was known of it."""

    host: Host
    key: paramiko.PKey
    known: Literal["new", "known", "changed"]

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` writes it."""
        return str(self.key.fingerprint)


def compared(host: Host, key: paramiko.PKey, known_hosts: Path, system: Path = SYSTEM) -> HostKey:
    """A shown key beside the recorded ones of its kind."""
    entries = [entry for path in (known_hosts, system) if path.exists() for entry in [_loaded(path).lookup(name(host))] if entry]
    recorded = [entry[key.get_name()] for entry in entries if key.get_name() in entry]
    known: Literal["new", "known", "changed"] = "new" if not recorded else "known" if key in recorded else "changed"
    return HostKey(host=host, key=key, known=known)


def record(keys: Iterable[HostKey], known_hosts: Path) -> None:
    """Write the keys down in place of what was known of these hosts; the file is replaced whole."""
    kept = _loaded(known_hosts) if known_hosts.exists() else paramiko.HostKeys()
    for one in keys:
        if kept.lookup(name(one.host)):
            del kept[name(one.host)]
        kept.add(name(one.host), one.key.get_name(), one.key)
    known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = known_hosts.with_name(f"{known_hosts.name}.part")
    try:
        kept.save(str(part))
        part.replace(known_hosts)
    except OSError as error:
        raise Mistake.at(str(known_hosts), f"cannot be written: {error.strerror}") from error


def name(host: Host) -> str:
    """A host as known_hosts names it."""
    return str(host.address) if host.ssh.port == 22 else f"[{host.address}]:{host.ssh.port}"


def _loaded(path: Path) -> paramiko.HostKeys:
    try:
        return paramiko.HostKeys(str(path))
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be read: {error.strerror}") from error
