"""desired - observed = Plan: what a push would do, which is also the dry run (3)."""

from __future__ import annotations

import difflib
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from hardway.desired import Blob, Content, File, Manifest, Part, Pickup, Secret, Text
from hardway.inventory import Host
from hardway.observed import Observed, OnDisk
from hardway.pki import own

Action = Literal[
    "finish", "create", "update", "delete", "enable", "disable", "start", "stop", "restart", "reload", "apply", "remove", "bootstrap"
]

INTERRUPTED = "interrupted"  # the part of what an earlier push has left half-way
LEFTOVERS = "leftovers"  # the part of what no component wants any more
UNITS = PurePosixPath("/etc/systemd/system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a push does, and why."""

    component: str
    action: Action
    what: str  # a path, a unit, an object of the cluster, or as whom a unit comes
    why: str
    file: File[Content] | None = None
    before: OnDisk | None = None
    manifest: Manifest | None = None

    @property
    def document(self) -> dict[str, str]:
        """As `--json` shows it; a secret shows by its path alone."""
        kind = "object" if self.manifest else "path" if self.what.startswith("/") else "user" if self.action == "bootstrap" else "unit"
        return {"component": self.component, "action": self.action, kind: self.what, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What differs on one host, in the order in which it is put right. Made by `compare` alone."""

    host: Host
    changes: tuple[Change, ...]

    def of(self, component: str) -> Plan:
        """One component's share."""
        return Plan(host=self.host, changes=tuple(c for c in self.changes if c.component == component))

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The binaries that the host's files need."""
        return tuple(c.file.content for c in self.changes if c.file and isinstance(c.file.content, Blob))


def compare(host: Host, parts: Sequence[Part], observed: Observed) -> Plan:
    """What has to be done on a host so that it carries these parts."""
    files = {part.component: tuple(_file_changes(part, observed)) for part in parts}
    changed = [change for changes in files.values() for change in changes]
    changes: list[Change] = []
    if observed.died:
        why = "a push died after its commit: what it has begun is finished first"
        changes.append(Change(component=INTERRUPTED, action="finish", what="/var/lib/hardway/txn", why=why))
    for part in parts:
        changes += files[part.component]
        asks = tuple(_asks(host, part, observed))
        changes += asks
        changes += _unit_changes(part, changed, observed, asks=bool(asks))
    changes += _leftovers(parts, observed)
    return Plan(host=host, changes=tuple(changes))


def compare_object(
    component: str, manifest: Manifest, live: Mapping[str, Any] | None, applied: Mapping[str, Any] | None, unknown: str = ""
) -> Change | None:
    """What differs between an object and what the API server's dry run of our apply makes of it.

    `unknown` says why there was no dry run: then it is taken to differ.
    """
    if unknown or live is None:
        return Change(component=component, action="create", what=manifest.name, why=unknown or "it is not there", manifest=manifest)
    if applied is not None and _essence(live) == _essence(applied):
        return None
    return Change(component=component, action="apply", what=manifest.name, why="it differs", manifest=manifest)


def digest(content: Content) -> str:
    """SHA-256 of a file's content, in hex."""
    match content:
        case Blob():
            return content.sha256
        case Secret():
            return hashlib.sha256(content.data).hexdigest()
        case Text():
            return hashlib.sha256(content.text.encode()).hexdigest()


def diff(change: Change, old: str) -> str:
    """A unified diff of a text; empty for anything that is no text."""
    if change.file is None or not isinstance(change.file.content, Text):
        return ""
    new = change.file.content.text
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), f"{change.what} (there)", f"{change.what} (wanted)", lineterm="", n=2)
    return "\n".join(lines)


def document(plans: Iterable[Plan], objects: Iterable[Change]) -> dict[str, Any]:
    """What `plan --json` prints."""
    hosts = {plan.host.name: [change.document for change in plan.changes] for plan in plans}
    wanted = [change.document for change in objects]
    return {"schema": 1, "hosts": hosts, "objects": wanted, "changes": sum(map(len, hosts.values())) + len(wanted)}


def _essence(found: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what the API server keeps about its writers, and without what controllers say of it meanwhile."""
    metadata = {key: value for key, value in found["metadata"].items() if key not in {"managedFields", "resourceVersion", "generation"}}
    return {**{key: value for key, value in found.items() if key != "status"}, "metadata": metadata}


def _file_changes(part: Part, observed: Observed) -> Iterable[Change]:
    for file in part.files:
        now = observed.files.get(file.path)
        if now is None:
            yield Change(component=part.component, action="create", what=str(file.path), why="it is not there", file=file)
            continue
        differs = []
        if now.sha256 != digest(file.content):
            differs.append("its content differs")
        if now.mode != file.mode:
            differs.append(f"its mode is {now.mode:04o}, wanted {file.mode:04o}")
        if now.owner != file.owner:
            differs.append(f"its owner is {now.owner}, wanted {file.owner}")
        if differs:
            yield Change(component=part.component, action="update", what=str(file.path), why=", ".join(differs), file=file, before=now)


def _asks(host: Host, part: Part, observed: Observed) -> Iterable[Change]:
    """The certificate that a unit asks for itself, if it has no good one by its host's own clock."""
    if part.own is None:
        return
    there, now = observed.certificates.get(part.own.path), datetime.fromtimestamp(observed.facts.clock, UTC)
    if why := own.lacking(part.own, host, there, part.trusted, now):
        yield Change(component=part.component, action="bootstrap", what=part.own.name(host), why=why)


def _unit_changes(part: Part, changed: Iterable[Change], observed: Observed, *, asks: bool = False) -> Iterable[Change]:
    """A restart only if a file that the unit reads at start has changed (4), one is owed (5), or it has to ask for a certificate."""
    read: Mapping[Pickup, list[str]] = defaultdict(list)
    for change in changed:
        for use in change.file.uses if change.file else ():
            if use.reader == part.unit:
                read[use.pickup].append(PurePosixPath(change.what).name)
    state = observed.units.get(part.unit)
    if state is None or not state.enabled:
        yield Change(component=part.component, action="enable", what=part.unit, why="it does not start at boot")
    if state is None or state.active in {"inactive", "failed"}:
        why = "it does not run" if state is None or state.active == "inactive" else "it has failed"
        yield Change(component=part.component, action="start", what=part.unit, why=why)
    elif part.unit in observed.owed:
        yield Change(component=part.component, action="restart", what=part.unit, why="a push that was cut short still owes it a restart")
    elif read[Pickup.RESTART]:
        yield Change(component=part.component, action="restart", what=part.unit, why=f"it reads {_listed(read[Pickup.RESTART])} at start")
    elif asks:
        yield Change(component=part.component, action="restart", what=part.unit, why="it asks for its certificate at start")
    elif read[Pickup.RELOAD]:
        yield Change(component=part.component, action="reload", what=part.unit, why=f"it reads {_listed(read[Pickup.RELOAD])} at reload")


def _leftovers(parts: Iterable[Part], observed: Observed) -> Iterable[Change]:
    wanted = {file.path for part in parts for file in part.files}
    for path in sorted(observed.managed - wanted):
        if path.parent == UNITS:
            yield Change(component=LEFTOVERS, action="stop", what=path.name, why="no component of this host has it any more")
            yield Change(component=LEFTOVERS, action="disable", what=path.name, why="no component of this host has it any more")
    for path in sorted(observed.managed - wanted):
        now = observed.files.get(path)
        if now is not None:
            yield Change(component=LEFTOVERS, action="delete", what=str(path), why="no component of this host has it any more", before=now)


def _listed(names: Sequence[str]) -> str:
    return (
        names[0]
        if len(names) == 1
        else f"{', '.join(names[:3])} and {len(names) - 3} more"
        if len(names) > 3
        else " and ".join((", ".join(names[:-1]), names[-1]))
    )
