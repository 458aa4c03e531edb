"""What is asked of a host beside its files and units, in the words of host.sh; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath

from hardway.observed import Asked, Ground, Listener, Setting

WORD = re.compile(r"[A-Za-z0-9/][A-Za-z0-9@_.:+/-]*")


def words(asked: Asked) -> Iterator[str]:
    """A line for each thing; a name that could mean something else on its way is a bug of ours."""
    lines = [
        *(("program", name) for name in asked.programs),
        *(("module", name) for name in asked.modules),
        *(("setting", name.replace(".", "/")) for name in asked.settings),
        *(("port", f"{port:04X}") for port in asked.ports),
        *(("name", name) for name in asked.names),
        *(("path", str(path)) for path in asked.paths),
    ]
    for kind, name in lines:
        if not WORD.fullmatch(name):
            raise ValueError(f"not a {kind}: {name!r}")
        yield f"{kind} {name}"


def parse(said: Mapping[str, Sequence[Sequence[str]]]) -> Ground:
    """The lines of a reply by their first word, as what they say."""
    facts = {row[0]: row[1] for row in said.get("fact", ())}
    version = "2" if facts.get("cgroup") == "cgroup2fs" else "1"
    holders: dict[str, tuple[int, str, str]] = {}
    for inode, process, unit, *program in said.get("holder", ()):
        holders.setdefault(inode, (int(process), unit, "\t".join(program)))
    listeners = {}
    for port, inode in said.get("listener", ()):
        holder, of, name = holders.get(inode, (0, "", ""))
        listeners[port, holder] = Listener(port=int(port, 16), process=holder, program=name, unit=of)
    return Ground(
        user=int(facts.get("user", 0)),
        kernel=facts.get("kernel", ""),
        hostname=facts.get("hostname", ""),
        machine_id=facts.get("machine_id", ""),
        product_uuid=facts.get("product_uuid", ""),
        swap=tuple(name for (name,) in said.get("swap", ())),
        controllers=frozenset(name for of, name in said.get("controller", ()) if of == version),
        networks=tuple(IPv4Network((_address(to), str(_address(mask)))) for to, mask in said.get("network", ())),
        addresses=frozenset(IPv4Address(address) for (address,) in said.get("address", ())),
        modules=frozenset(name for (name,) in said.get("module", ())),
        settings={
            name.replace("/", "."): Setting(value="\t".join(value), writable=writable == "w")
            for name, writable, *value in said.get("setting", ())
        },
        names=frozenset(name for (name,) in said.get("name", ())),
        listeners=tuple(listeners.values()),
        paths=frozenset(PurePosixPath(path) for (path,) in said.get("path", ())),
    )


def _address(word: str) -> IPv4Address:
    """As the kernel prints one: the bytes of a number of its own order, which on both architectures is the little one first."""
    return IPv4Address(int.from_bytes(bytes.fromhex(word), "little"))
