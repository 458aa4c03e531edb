"""What a host carries of the kit and its daemons, and the Plan that takes it away; pure, but for the two questions' text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hardway.components import ALL
from hardway.desired import KINDS, Component, Trace
from hardway.inventory import Host
from hardway.plan import UNITS, Change, Plan

SCRIPT = Path(__file__).with_name("reset.sh").read_text()
SYSUSERS = PurePosixPath("/etc/sysusers.d")
KIT = "hardway"  # whose the host's memory of all this is: it goes last
OTHERS = "others"  # whose name does not say it, or who is no component any more
WHY = "a reset leaves nothing of the kit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What was found on a host."""

    kit: bool  # whether it remembers a push
    files: frozenset[PurePosixPath]  # of those that we put there, what is still there
    gone: frozenset[PurePosixPath]  # the others, where a reset was cut short
    traces: frozenset[Trace]  # those that we know of; also of daemons that are not ours

    @property
    def bundles(self) -> tuple[PurePosixPath, ...]:
        """Which say whose the host is."""
        return tuple(sorted(path for path in self.files if path.suffix == ".crt"))


def look() -> tuple[str, ...]:
    """The command that finds it out."""
    known = {trace for component in ALL for trace in (*component.leaves, Trace("user", component.name))}
    return ("sh", "-c", SCRIPT, "sh", "look", "\n".join(sorted(map(str, known))))


def parse(said: str) -> Remains:
    """What that command says."""
    rows = [line.split("\t") for line in said.splitlines()]
    found = [rest[0].partition(" ") for word, *rest in rows if word == "trace"]
    return Remains(
        kit=["kit"] in rows,
        files=frozenset(PurePosixPath(rest[0]) for word, *rest in rows if word == "file"),
        gone=frozenset(PurePosixPath(rest[0]) for word, *rest in rows if word == "gone"),
        traces=frozenset(Trace(kind, name) for kind, _, name in found if kind in KINDS),
    )


def plan(host: Host, remains: Remains) -> Plan:
    """What a reset does there, in its order. A daemon's traces are ours only where its unit is: it may be somebody else's."""
    return Plan(host=host, changes=tuple(_changes(remains)) if remains.kit else ())


def take(changes: Sequence[Change]) -> tuple[str, ...]:
    """The command that does it."""
    words = {"stop": "unit ", "remove": "", "delete": "file "}
    return ("sh", "-c", SCRIPT, "sh", "take", "\n".join(f"{words[c.action]}{c.what}" for c in changes if c.component != KIT))


def left(said: str) -> tuple[str, ...]:
    """What that command could not take away, and why."""
    return tuple(line.partition("\t")[2] for line in said.splitlines() if line.startswith("left\t"))


def _changes(remains: Remains) -> Iterator[Change]:
    """Who asks stops before who is asked; what was made goes before the files, by which it is known whose it is."""
    known = remains.files | remains.gone
    mine = [component for component in reversed(ALL) if UNITS / component.unit in known]
    units = {component.unit: component.name for component in mine if UNITS / component.unit in remains.files}
    others = sorted(path.name for path in remains.files if path.parent == UNITS and path.name not in units)
    for unit in (*others, *units):
        yield Change(component=units.get(unit, OTHERS), action="stop", what=unit, why=WHY)
    for trace, component in _traces(mine, remains):
        yield Change(component=component, action="remove", what=str(trace), why=WHY)
    for path in sorted(remains.files):
        yield Change(component=_whose(path, mine), action="delete", what=str(path), why=WHY)
    for directory in ("/run/hardway", "/var/lib/hardway"):
        yield Change(component=KIT, action="remove", what=f"directory {directory}", why=WHY)


def _traces(mine: Sequence[Component], remains: Remains) -> Iterator[tuple[Trace, str]]:
    """Each once, whoever else makes it too."""
    found: dict[Trace, str] = {}
    for component in mine:
        user = (Trace("user", component.name),) if SYSUSERS / f"{component.name}.conf" in remains.files | remains.gone else ()
        for trace in (*component.leaves, *user):
            if trace in remains.traces:
                found.setdefault(trace, component.name)
    yield from sorted(found.items(), key=lambda one: KINDS.index(one[0].kind))


def _whose(path: PurePosixPath, mine: Sequence[Component]) -> str:
    """Whose file it is, as far as its name says so."""
    names = {path.stem, path.name, *path.parts}
    return next((component.name for component in mine if names & {component.name, *component.programs}), OTHERS)
