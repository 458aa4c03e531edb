"""The host keys that are known: compared with what a host shows, and recorded in state/<cluster>/known_hosts (9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import paramiko

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote.ssh.way import Way


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """What a host shows, and whether that is what was known of it."""

    host: Host
    way: Way
    key: paramiko.PKey
    known: Literal["new", "known", "changed"]

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` writes it."""
        return str(self.key.fingerprint)


def compared(host: Host, key: paramiko.PKey, way: Way) -> HostKey:
    """A shown key beside the recorded ones of its kind."""
    there = recorded(way).get(key.get_name())
    return HostKey(host=host, way=way, key=key, known="new" if there is None else "known" if there == key else "changed")


def recorded(way: Way) -> dict[str, paramiko.PKey]:
    """What is known of a host, by kind of key: the first file that knows it decides, ours before the operator's own."""
    for path in way.known_hosts:
        if path.exists() and (found := _loaded(path).lookup(way.known_as)):
            return dict(found.items())
    return {}


def record(keys: Sequence[HostKey], known_hosts: Path) -> None:
    """Write the keys down in place of what was known of these hosts; the file is replaced whole, and left alone if there are none."""
    if not keys:
        return
    kept = _loaded(known_hosts) if known_hosts.exists() else paramiko.HostKeys()
    for one in keys:
        if kept.lookup(one.way.known_as):
            del kept[one.way.known_as]
        kept.add(one.way.known_as, one.key.get_name(), one.key)
    known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = known_hosts.with_name(f"{known_hosts.name}.part")
    try:
        kept.save(str(part))
        part.replace(known_hosts)
    except OSError as error:
        raise Mistake.at(str(known_hosts), f"cannot be written: {error.strerror}") from error


def _loaded(path: Path) -> paramiko.HostKeys:
    try:
        return paramiko.HostKeys(str(path))
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be read: {error.strerror}") from error
