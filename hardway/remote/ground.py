"""What is asked of a host beside its files and units, in the words of host.sh; pure."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath

from hardway.observed import Asked, Ground, Listener, Setting

SETTINGS = "/proc/sys/"
OF_EVERY_HOST = ("/proc/sys/kernel/hostname", "/proc/sys/kernel/osrelease")
WORD = re.compile(r"[A-Za-z0-9/][A-Za-z0-9@_.:+/-]*")


def words(asked: Asked) -> Iterator[str]:
    """A word for each thing; a name that could mean something else on its way is a bug of ours."""
    named = [
        *(("program", name) for name in asked.programs),
        *(("module", name) for name in asked.modules),
        *(("setting", name.replace(".", "/")) for name in asked.settings),
        *(("port", f"{port:04X}") for port in asked.ports),
        *(("name", name) for name in asked.names),
        *(("path", str(path)) for path in asked.paths),
        *(("certificate", str(path)) for path in asked.certificates),
    ]
    for kind, name in named:
        if not WORD.fullmatch(name):
            raise ValueError(f"not a {kind}: {name!r}")
        yield f"{kind}={name}"


def parse(said: Mapping[str, Sequence[Sequence[str]]], files: str, root: str) -> Ground:
    """What a host says by lines of words, and the files of the kernel that it gives as they are."""
    read: dict[str, list[str]] = defaultdict(list)
    for line in files.splitlines():
        path, _, text = line.removeprefix(root).partition(":")
        read[path].append(text)

    def first(path: str) -> str:
        return next((text.strip() for text in read[path]), "")

    version_2 = first("/sys/fs/cgroup/cgroup.controllers").split()
    version_1 = [words[0] for words in map(str.split, read["/proc/cgroups"]) if words[-1:] == ["1"]]
    writable = {name for (name,) in said.get("writable", ())}
    settings = [path.removeprefix(SETTINGS) for path in read if path.startswith(SETTINGS) and path not in OF_EVERY_HOST]
    return Ground(
        user=next((int(text.split()[1]) for text in read["/proc/self/status"] if text.startswith("Uid:")), 0),
        kernel=first("/proc/sys/kernel/osrelease"),
        hostname=first("/proc/sys/kernel/hostname"),
        machine_id=first("/etc/machine-id"),
        product_uuid=first("/sys/class/dmi/id/product_uuid"),
        swap=tuple(text.split()[0] for text in read["/proc/swaps"][1:]),
        controllers=frozenset(version_2 or version_1),
        networks=tuple(_networks(read["/proc/net/route"])),
        addresses=frozenset(_addresses(read["/proc/net/fib_trie"])),
        modules=frozenset([name for (name,) in said.get("module", ())] + [text.split()[-1] for text in read["/proc/filesystems"]]),
        settings={name.replace("/", "."): Setting(value=first(SETTINGS + name), writable=name in writable) for name in settings},
        names=frozenset(name for (name,) in said.get("name", ())),
        listeners=tuple(_listeners(said)),
        paths=frozenset(PurePosixPath(path) for (path,) in said.get("path", ())),
    )


def certificates(said: Mapping[str, Sequence[Sequence[str]]]) -> dict[PurePosixPath, bytes]:
    """The first certificate of each file that was asked for, as DER; what is none is left out."""
    found = {}
    for path, text in said.get("certificate", ()):
        with suppress(ValueError):
            found[PurePosixPath(path)] = base64.b64decode(text, validate=True)
    return {path: der for path, der in found.items() if der}


def _networks(routes: Iterable[str]) -> Iterator[IPv4Network]:
    """Those that need no gateway: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html has numbers as these."""
    for text in routes:
        _, to, gateway, *_, mask = text.split("\t")[:8]
        if gateway == "00000000":
            yield IPv4Network((_address(to), str(_address(mask))))


def _addresses(trie: Iterable[str]) -> Iterator[IPv4Address]:
    address = ""
    for text in trie:
        if "|-- " in text:
            address = text.rpartition(" ")[2]
        elif "/32 host LOCAL" in text:
            yield IPv4Address(address)


def _listeners(said: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[Listener]:
    holders: dict[str, Listener] = {}
    for inode, process, unit, *program in said.get("holder", ()):
        holders.setdefault(inode, Listener(port=0, process=int(process), program="\t".join(program), unit=unit))
    found = {int(port, 16): holders.get(inode) for port, inode in said.get("listener", ())}
    for port, holder in found.items():
        yield replace(holder, port=port) if holder else Listener(port=port)


def _address(word: str) -> IPv4Address:
    """As the kernel prints one: the bytes of a number of its own order, which on both architectures is the little one first."""
    return IPv4Address(int.from_bytes(bytes.fromhex(word), "little"))
