"""The way to a host: what the inventory says of it, and for the rest the operator's own configuration, read by OpenSSH itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardway.errors import Mistake
from hardway.inventory import Host

OURS = ("~/.ssh/config", "/etc/ssh/ssh_config")
HOPS = 8  # jump hosts of jump hosts, before it is taken for a circle
# The parts of a jump host, as ProxyJump and `ssh -J` take it.
HOP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@/]+)@)?(?P<name>[^@:/]+)(?::(?P<port>[0-9]+))?/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where to dial, as whom and with which keys; `via` are the jump hosts, the first one first."""

    name: str  # as the configuration was asked
    user: str
    address: str
    port: int = 22
    keys: tuple[Path, ...] = ()
    only: bool = False  # no other key than these, not even of the agent
    via: tuple[Way, ...] = ()
    command: str = ""  # whose standard streams are the connection, instead of TCP
    known_hosts: tuple[Path, ...] = ()  # where it is asked for a host key: the first that knows the host decides

    @property
    def known_as(self) -> str:
        """As known_hosts names it."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


def way(host: Host, *, identity: Path | None, known_hosts: Path, config: Path | None = None) -> Way:
    """The way to a host of the inventory; an identity is of hosts that we have made, whom no configuration concerns."""
    ssh = host.ssh
    if identity:
        hops = tuple(_hop(spec, lambda *_: {}, (known_hosts,)) for spec in _specs(ssh.via or ""))
        return Way(
            name=host.name,
            user=ssh.user or "root",
            address=str(host.address),
            port=ssh.listens,
            keys=(identity,),
            only=True,
            via=tuple(replace(hop, keys=(identity,), only=True) for hop in hops),
            known_hosts=(known_hosts,),
        )
    ask = _asking(config, host.name)
    name = ssh.host or str(host.address)
    said = ask(name, ssh.user, ssh.port, "root")
    found = _found(name, said, (known_hosts,))
    via = _jumps(ssh.via or said.get("proxyjump", [""])[0], ask, (known_hosts,), HOPS)
    if ssh.key:  # a jump host may have one of its own, and else lets the same one in
        found = replace(found, keys=(ssh.key,), only=True)
        via = tuple(replace(hop, keys=(ssh.key, *hop.keys)) for hop in via)
    return replace(found, via=via, command="" if ssh.via else found.command)


Said = Mapping[str, Sequence[str]]
Asking = Callable[[str, str | None, int | None, str], Said]


def _asking(config: Path | None, host: str) -> Asking:
    """OpenSSH's own reading of its configuration: with Include, Match and all that it knows. Without OpenSSH there is none to read."""
    program = shutil.which("ssh")

    def ask(name: str, user: str | None, port: int | None, default: str) -> Said:
        if not program:
            return {}
        files = [str(config)] if config else list(OURS)
        text = "".join(f'Include "{file}"\n' for file in files) + "Match all\n" + (f"User {default}\n" if default else "")
        options = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
        argv = [program, "-G", "-T", "-F", "/dev/stdin", *options, "--", name]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            what = f"ssh does not understand its configuration: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
            raise Mistake.at(host, what, "see there")
        said: dict[str, list[str]] = defaultdict(list)
        for row in done.stdout.splitlines():
            word, _, value = row.partition(" ")
            said[word].append(value)
        return said

    return ask


def _found(name: str, said: Said, known_hosts: tuple[Path, ...]) -> Way:
    """One host as the configuration has it."""

    def one(word: str, default: str) -> str:
        return next(iter(said.get(word, ())), default)

    user, address, port = one("user", "root"), one("hostname", name), int(one("port", "22"))
    tokens = {"%": "%", "h": address, "n": name, "p": str(port), "r": user, "d": str(Path.home())}
    command = one("proxycommand", "none")
    files = [*said.get("userknownhostsfile", ()), *said.get("globalknownhostsfile", ())]
    return Way(
        name=name,
        user=user,
        address=address,
        port=port,
        keys=tuple(path for key in said.get("identityfile", ()) if (path := Path(_filled(key, tokens)).expanduser()).is_file()),
        only=one("identitiesonly", "no") == "yes",
        command="" if command == "none" else _filled(command, tokens),
        known_hosts=(*known_hosts, *(Path(file).expanduser() for line in files for file in line.split())),
    )


def _jumps(specs: str, ask: Asking, known_hosts: tuple[Path, ...], left: int) -> tuple[Way, ...]:
    """Jump hosts, the first one first; how the first is reached, its own configuration says."""
    if not specs or specs == "none":
        return ()
    if not left:
        raise Mistake.at(specs, "jump hosts that lead to each other", "see ProxyJump in ~/.ssh/config")
    first, *rest = _specs(specs)
    said = ask(*_asked(first))
    before = _jumps(said.get("proxyjump", [""])[0], ask, known_hosts, left - 1)
    return (*before, _hop(first, ask, known_hosts), *(replace(_hop(spec, ask, known_hosts), command="") for spec in rest))


def _hop(spec: str, ask: Asking, known_hosts: tuple[Path, ...]) -> Way:
    name, user, port, default = _asked(spec)
    found = _found(name, ask(name, user, port, default), known_hosts)
    return replace(found, user=user or found.user, port=port or found.port)


def _asked(spec: str) -> tuple[str, str | None, int | None, str]:
    parts = HOP.fullmatch(spec)
    if not parts:
        raise Mistake.at(spec, "is no jump host", "write user@name:port")
    return parts["name"], parts["user"], int(parts["port"]) if parts["port"] else None, ""


def _specs(specs: str) -> list[str]:
    return [spec.strip() for spec in specs.split(",") if spec.strip()]


def _filled(text: str, tokens: Mapping[str, str]) -> str:
    """A value with OpenSSH's tokens replaced; those that we do not know stay."""
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)
