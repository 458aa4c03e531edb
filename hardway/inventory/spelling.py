"""How a text may be spelled: names, versions, flags end up in units, certificates and file names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address

from hardway.errors import Finding
from hardway.inventory.draft import Draft
from hardway.inventory.wording import shown
from hardway.inventory.written import SshWritten


@dataclass(frozen=True, slots=True)
class Spelling:
    """A kind of text, as a whole."""

    pattern: str
    what: str
    next_step: str

    def fits(self, text: str) -> bool:
        return re.fullmatch(self.pattern, text, re.ASCII) is not None


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
# What YAML 1.1 and 1.2 take for a truth value, a number, a date or nothing: https://yaml.org/type/
_NO_TEXT = r"true|false|yes|no|on|off|y|n|null|[0-9][0-9.-]*(?:e[0-9-]+)?|0[xob][0-9a-f]+"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}"
_JUMP = rf"(?:{_USER}@)?{_HOST}(?::[0-9]{{1,5}})?"

LABEL = Spelling(_LABEL, "is no DNS label", "at most 63 of a-z, 0-9 and -, no - at either end, no dot")
DOMAIN = Spelling(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", "is no DNS name", "lower case labels and dots, such as cluster.local")
SAN = Spelling(
    rf"(?=.{{1,253}}\Z)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", "is neither a DNS name nor an IPv4 address", "lower case, such as api.example.org"
)
USER = Spelling(_USER, "is no user name", "letters, digits, and _ . @ -")
DIALLED = Spelling(_HOST, "is nothing to dial", "write a name, an address, or a Host of ~/.ssh/config")
JUMP = Spelling(rf"{_JUMP}(?:,{_JUMP})*", "is no jump host", "write user@host:port, several with commas")
PATH = Spelling(r"[^\x00-\x1f\x7f]+", "is no path", "a path is one line")
VERSION = Spelling(r"[0-9]+\.[0-9]+\.[0-9]+(?:-(?:alpha|beta|rc)\.[0-9]+)?", "is no version", "three numbers without a v, such as 1.37.2")
URL = Spelling(
    r"https?://[A-Za-z0-9][A-Za-z0-9._~:/@+,;=()-]*", "is no URL to download from", "http:// or https://, without blanks, query or quotes"
)
FLAG = Spelling(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", "is no name of a flag", "write it without dashes in front, such as event-ttl")
# systemd reads quotes, backslashes, $ and % in a unit's command line its own way, and a blank ends an argument:
# https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#Command%20lines
VALUE = Spelling(r"[!#&(-\[\]^_a-~]*", "has a blank, a quote, a backslash, $ or %", "flags with such values are not supported")


def check(draft: Draft) -> Iterator[Finding]:
    """Every text that is not spelled as its kind wants it."""
    for at, text, spelling in _texts(draft):
        if not spelling.fits(text):
            yield Finding(where=draft.where(*at), what=f"{shown(text)} {spelling.what}", next_step=spelling.next_step)
        elif spelling in {LABEL, DOMAIN} and re.fullmatch(_NO_TEXT, text):
            what = f"{shown(text)} is no text to a daemon that reads it in YAML"
            yield Finding(where=draft.where(*at), what=what, next_step="take a name that is no number and no word such as yes, on or null")
    for name in draft.hosts:
        if name == "localhost":
            yield Finding(where=draft.where("hosts", name), what="localhost is every machine's name for itself", next_step="choose another")
    for name, host in draft.hosts.items():
        for i, san in enumerate(host.sans):
            yield from _san(draft.where("hosts", name, "sans", i), san)


def _texts(draft: Draft) -> Iterator[tuple[tuple[str | int, ...], str, Spelling]]:
    if draft.cluster is not None:
        yield ("cluster",), draft.cluster, LABEL
    yield from ((("hosts", name), name, LABEL) for name in draft.hosts)
    if draft.networks:
        yield ("networks", "domain"), draft.networks.domain, DOMAIN
    if draft.endpoint and draft.endpoint.name is not None:
        yield ("endpoint", "name"), draft.endpoint.name, DOMAIN
    if draft.versions:
        yield from ((("versions", project), version, VERSION) for project, version in asdict(draft.versions).items())
    if draft.binaries and draft.binaries.mirror is not None:
        yield ("binaries", "mirror"), draft.binaries.mirror, URL
    if draft.ssh:
        yield from _ssh(("ssh",), draft.ssh)
    for name, host in draft.hosts.items():
        yield from _ssh(("hosts", name, "ssh"), host.ssh)
    for component, flags in draft.flags.items():
        for flag, value in flags.items():
            yield ("flags", component, flag), flag, FLAG
            yield ("flags", component, flag), str(value), VALUE


def _ssh(at: tuple[str, ...], ssh: SshWritten) -> Iterator[tuple[tuple[str, ...], str, Spelling]]:
    if ssh.host is not None:
        yield (*at, "host"), ssh.host, DIALLED
    if ssh.user is not None:
        yield (*at, "user"), ssh.user, USER
    if ssh.via is not None:
        yield (*at, "via"), ssh.via, JUMP
    if ssh.key is not None:
        yield (*at, "key"), str(ssh.key), PATH


def _san(where: str, san: str) -> Iterator[Finding]:
    if _is(IPv4Address, san) or (SAN.fits(san) and not re.fullmatch(r"[0-9.]+", san)):
        return
    if _is(IPv6Address, san):
        yield Finding(
            where=where, what=f"{shown(san)} is IPv6, which is not supported yet", next_step="write an IPv4 address or a DNS name"
        )
    else:
        yield Finding(where=where, what=f"{shown(san)} {SAN.what}", next_step=SAN.next_step)


def _is(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
