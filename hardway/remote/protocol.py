"""The words between a Machine and host.sh: requests as bytes, replies as values; pure."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shlex
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from hardway.errors import Finding, Mistake, Retreat
from hardway.observed import RESOLV_CONF, Asked, Facts, Observed, OnDisk, UnitState
from hardway.remote import ground

Verb = Literal["enable", "disable", "start", "stop", "restart", "restart-no-block", "reload"]

SCRIPT = Path(__file__).with_name("host.sh").read_bytes()
ARCHITECTURES: Mapping[str, Literal["amd64", "arm64"]] = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A file that takes its place; `before` is the digest that the plan saw, None if there was no file."""

    path: PurePosixPath
    owner: str
    mode: int
    before: str | None
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A file of ours that goes."""

    path: PurePosixPath
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What systemd does with a unit; `stop` and `disable` come before the files are swapped, the others after it."""

    verb: Verb
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """One change of one host, all of it or nothing; contents that are not given come out of the host's store."""

    moves: tuple[Move, ...] = ()
    removals: tuple[Removal, ...] = ()
    owed: frozenset[str] = frozenset()  # marked before the swap, cleared by `settle`
    actions: tuple[Action, ...] = ()
    contents: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What host.sh answered to one request."""

    body: bytes = field(repr=False)  # may be a file's text
    status: int
    said: str = field(repr=False)  # standard error

    def checked(self, host: str) -> bytes:
        """The body; a Mistake if the host reports failures, a Retreat if it went back to how it was."""
        back = any(line.startswith(b"back\t") for line in self.body.split(b"\n"))
        fails = [line[5:].decode(errors="replace") for line in self.body.split(b"\n") if line.startswith(b"fail\t")]
        if self.status and not fails:
            fails = [(self.said.strip().splitlines() or [f"its shell ended with {self.status}"])[-1]]
        if fails or back:
            raise (Retreat if back else Mistake)(*(Finding(where=host, what=fail, next_step=next_step(fail)) for fail in fails))
        return self.body


def next_step(fail: str) -> str:
    """What an operator does about a failure that host.sh reports."""
    if "changed since the plan" in fail or fail.endswith("is gone"):
        return "run ./inv push again"
    return ""


def command(*, nonce: str, root: str, shell: str = "sh", sudo: bool = False, tty: bool = False) -> str:
    """What is executed on the host: says ready, then evaluates as many bytes of script as it was told.

    Not `sh -s`: dash reads ahead and swallows what follows the script. Words without a quote or a backslash in them,
    so that a login shell that is not POSIX passes them on. A terminal changes no byte.
    """
    boot = 'echo ready "$0"; eval "$(head -c "$1")"'
    words = [*shell.split(), "-c", boot, nonce, str(len(SCRIPT)), root]
    if sudo:  # without a password it asks for none, and else by these words
        words = ["sudo", "-S", "-p", prompt(nonce), "--", *words]
    return shlex.join(["sh", "-c", 'stty raw -echo; exec "$@"', "sh", *words] if tty else words)


def ready(nonce: str) -> bytes:
    """What the host says before it reads its script."""
    return f"ready {nonce}\n".encode()


def prompt(nonce: str) -> str:
    """By what sudo asks for a password."""
    return f"password-{nonce}:"


def nul_ended(words: Iterable[str]) -> bytes:
    """A list of words, each ended by NUL."""
    return b"".join(word.encode() + b"\0" for word in words)


def path_words(paths: Iterable[PurePosixPath]) -> list[str]:
    """Paths as text, in order; one that could mean something else on its way is a bug of ours."""
    words = sorted(str(path) for path in paths)
    for word in words:
        if not re.fullmatch(r"(/[^/\x00-\x1f\\]+)+", word) or "/../" in f"{word}/":
            raise ValueError(f"not a plain absolute path: {word!r}")
    return words


def unit_words(units: Iterable[str]) -> list[str]:
    """Names of units or programs, in their order."""
    words = list(units)
    for word in words:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9@_.:+-]*", word):
            raise ValueError(f"not a unit: {word!r}")
    return words


def observe(paths: Iterable[PurePosixPath], units: Iterable[str], asked: Asked, *, verify: bool = False) -> bytes:
    """Asks for facts, files, units and what else is asked."""
    parts = [nul_ended(path_words(paths)), nul_ended(unit_words(units)), " ".join(ground.words(asked)).encode()]
    sizes = " ".join(str(len(part)) for part in parts)
    return f"observe {'verify' if verify else 'trust'} {sizes}\n".encode() + b"".join(parts)


def apply(change: Apply) -> bytes:
    """Asks for one change."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))

        add("host.sh", SCRIPT)  # with which a power cut in the middle is healed at boot
        for data in dict.fromkeys(change.contents):
            add(f"new/{hashlib.sha256(data).hexdigest()}", data)
        add("owed", "".join(f"{unit}\n" for unit in unit_words(sorted(change.owed))).encode())
        unit_words(action.unit for action in change.actions)
        add("actions", "".join(f"{action.verb} {action.unit}\n" for action in change.actions).encode())
        # The last member: the host knows by it that it has all of them.
        add("moves", "".join(f"{row}\n" for row in rows(change)).encode())
    return b"apply %d\n" % len(out.getvalue()) + out.getvalue()


def rows(change: Apply) -> Iterator[str]:
    """The table of moves and removals; what makes users goes first, so that files can be given to them."""
    names = path_words([move.path for move in change.moves] + [removal.path for removal in change.removals])
    if len(set(names)) != len(names):
        raise ValueError("a path occurs twice in one change")
    for move in sorted(change.moves, key=lambda move: move.path.parent.name != "sysusers.d"):
        if not re.fullmatch(r"[a-z0-9_-]+:[a-z0-9_-]+", move.owner) or not re.fullmatch(r"[0-9a-f]{64}", move.after):
            raise ValueError(f"not an owner and a digest: {move}")
        yield f"{move.mode:o}\t{move.owner}\t{move.before or '-'}\t{move.after}\t{move.path}"
    for removal in change.removals:
        yield f"-\t-\t{removal.before}\t-\t{removal.path}"


def settle(units: Iterable[str], *, steady: int) -> bytes:
    """Says that restarts are proved and owed no more, once their units have been up for so many seconds."""
    names = nul_ended(unit_words(units))
    return b"settle %d %d\n" % (steady, len(names)) + names


def retract(unit: str) -> bytes:
    """Says that a unit is not what it should be: back to how it was."""
    return f"retract {len(unit)}\n{unit_words([unit])[0]}".encode()


def read(paths: Iterable[PurePosixPath]) -> bytes:
    """Asks for the text of files."""
    names = nul_ended(path_words(paths))
    return b"read_files %d\n" % len(names) + names


def run(argv: Sequence[str]) -> bytes:
    """Asks for a command's output."""
    line = shlex.join(argv).encode()
    return b"run %d\n" % len(line) + line


def lock(who: str, *, silence: int) -> bytes:
    """Asks for the host's lock, which ends with the connection or after so many seconds without a heartbeat."""
    name = who.encode()
    return b"lock %d %d\n" % (silence, len(name)) + name


def pause(unit: str) -> bytes:
    """Asks that a unit's main process may stand still; a byte begins it."""
    return f"pause {len(unit)}\n{unit_words([unit])[0]}".encode()


def parse_read(body: bytes) -> dict[PurePosixPath, str]:
    """The texts of the files that are there."""
    rows = (line.split("\t") for line in body.decode().splitlines() if line.startswith("text\t"))
    return {PurePosixPath(path): base64.b64decode(data).decode(errors="replace") for _, path, data in rows}


def parse_run(body: bytes, nonce: str) -> tuple[str, int, str]:
    """Output, exit code and what was said on standard error."""
    out, _, rest = body.rpartition(f"\nsaid {nonce} ".encode())
    code, _, said = rest.decode(errors="replace").partition("\n")
    return out.decode(errors="replace"), int(code), said.strip()


def parse_observed(body: bytes, *, host: str, root: str, units: Sequence[str]) -> Observed:
    """One host's reply to `observe`."""
    said: dict[str, list[list[str]]] = {}
    text, _, files_read = body.decode(errors="surrogateescape").partition("\nfiles\n")
    for line in text.split("\n"):
        word, *rest = line.split("\t")
        said.setdefault(word, []).append(rest)

    def bare(path: str) -> PurePosixPath:
        return PurePosixPath(path.removeprefix(root))

    digests = {(path, key): digest for path, key, digest in said.get("managed", [])}
    fresh = {bare(path): digest for digest, path in said.get("sum", [])}
    files = {}
    for named, key, mode, owner in said.get("now", []):
        path = bare(named)
        digest = fresh.get(path) or digests.get((str(path), key))
        if digest:  # else it went away while it was looked at
            files[path] = OnDisk(sha256=digest, mode=int(mode, 8), owner=owner)
    return Observed(
        facts=parse_facts(dict(said.get("fact", [])), [name for (name,) in said.get("program", [])], host),
        ground=ground.parse(said, files_read, root),
        files=files,
        units=parse_units([row[0] for row in said.get("unit", [])], units, host),
        managed=frozenset(PurePosixPath(path) for path, _, _ in said.get("managed", [])),
        stored=frozenset(digest for (digest,) in said.get("stored", [])),
        certificates=ground.certificates(said),
        owed=frozenset(unit for (unit,) in said.get("owed", [])),
        restoring=next((text for (text,) in said.get("restoring", [])), ""),
        died="died" in said,
    )


def parse_facts(facts: Mapping[str, str], programs: Iterable[str], host: str) -> Facts:
    """What a host can do."""
    if facts["arch"] not in ARCHITECTURES:
        raise Mistake.at(host, f"its architecture is {facts['arch']}", "use a host of amd64 (x86_64) or arm64 (aarch64)")
    if not facts["systemd"].isdecimal():
        raise Mistake.at(host, "it has no systemd", "use a host that systemd runs")
    return Facts(
        arch=ARCHITECTURES[facts["arch"]],
        cgroup=2 if facts["cgroup"] == "cgroup2fs" else 1,
        systemd=int(facts["systemd"]),
        boot_id=facts["boot_id"],
        clock=float(facts["clock"]),
        disk_free=int(facts["disk_free"]),
        memory=int(facts["memory"]) * 1024,
        mtu=int(facts.get("mtu") or 0),
        container="container" in facts,
        resolv_conf=PurePosixPath(facts.get("resolv_conf", RESOLV_CONF)),
        programs=frozenset(programs),
    )


def parse_units(lines: Sequence[str], names: Sequence[str], host: str) -> dict[str, UnitState]:
    """The units that are there: systemctl answers in the order in which it was asked, with blank lines between."""
    blocks = "\n".join(lines).split("\n\n") if lines else []
    if len(blocks) != len(names):
        raise Mistake.at(host, "systemctl does not answer", "use a host that systemd runs")
    units = {}
    for name, block in zip(names, blocks, strict=True):
        shown = dict(line.split("=", 1) for line in block.strip().split("\n"))
        if shown["LoadState"] == "not-found" and shown["ActiveState"] == "inactive":
            continue
        units[name] = UnitState(
            active=shown["ActiveState"],
            sub=shown["SubState"],
            enabled=shown.get("UnitFileState", "").startswith("enabled"),
            invocation=shown.get("InvocationID", ""),
            restarts=int(shown.get("NRestarts") or 0),
            since=shown.get("ActiveEnterTimestamp", ""),
        )
    return units
