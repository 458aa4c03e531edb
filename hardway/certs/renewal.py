"""Certificates issued again: pushed by the ordinary push, nothing else with them, and proved where they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hardway.components import ALL
from hardway.components.daemon import SYSTEM
from hardway.desired import Blob, Content, File, Part
from hardway.errors import Mistake
from hardway.pki.declared import Declarations
from hardway.plan import LEFTOVERS, Plan, compare, digest
from hardway.push import Survey, push, settled, survey
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import Failure, attempt

Tell = Callable[[str], None]

AT_ONCE = 16  # hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a renewal has brought to the hosts."""

    files: tuple[tuple[str, PurePosixPath], ...]  # host and path
    left: int  # other changes that a push would make on hosts, and that were left alone
    silent: Mapping[str, str]  # hosts that did not answer and have none of it, and why


def bring(cluster: Cluster, declarations: Declarations, tell: Tell) -> Pushed:
    """Push the certificates that differ, and no other change: an edit of the inventory does not go along unseen.

    A host that is down does not keep the others from theirs.
    """
    asked = attempt(cluster.inventory.hosts, lambda host: cluster.machine(host).run("true"), AT_ONCE)
    silent = {host.name: answer.error for host, answer in asked.items() if isinstance(answer, Failure)}
    if len(silent) == len(asked):
        raise Mistake(*(finding for error in silent.values() for finding in error.findings))
    some = tuple(host for host in asked if host.name not in silent)
    found = settled(cluster, lambda: survey(cluster, _no_programs, some=some), tell)
    _refuse_other_bundles(found, declarations)
    paths = frozenset(one.path for authority in declarations.authorities for one in authority.certificates.values() if one.path)
    ours = narrowed(found, lambda file: file.path in paths)
    push(cluster, ours, tell)
    left = narrowed(found, lambda file: not isinstance(file.content, Blob)).changes - ours.changes
    moved = ((plan.host.name, change.file.path) for plan in ours.plans for change in plan.changes if change.file)
    return Pushed(files=tuple(moved), left=left, silent={name: error.findings[0].what for name, error in silent.items()})


def _refuse_other_bundles(found: Survey, declarations: Declarations) -> None:
    """Who does not trust an authority yet is not shown what it has signed."""
    bundles = frozenset(place.path for authority in declarations.authorities for place in authority.trusted_in)
    for plan in narrowed(found, lambda file: file.path in bundles).plans:
        for change in plan.changes:
            if change.file and (change.before is None or change.before.sha256 != digest(change.file.content)):
                raise Mistake.at(plan.host.name, f"{change.what} is not what state/ trusts", "run ./inv push, which brings it in order")


def narrowed(found: Survey, keep: Callable[[File[Content]], bool]) -> Survey:
    """What is to be done about some files of what is installed; and the start of units that should run and do not."""
    plans = []
    for plan in found.plans:
        observed = found.observed[plan.host.name]
        installed = [part for part in found.parts[plan.host.name] if SYSTEM / part.unit in observed.files]
        parts = [Part(component=one.component, unit=one.unit, files=tuple(file for file in one.files if keep(file))) for one in installed]
        changes = compare(plan.host, parts, observed).changes
        plans.append(Plan(host=plan.host, changes=tuple(one for one in changes if one.component != LEFTOVERS and one.action != "enable")))
    return replace(found, plans=tuple(plans), objects=())


def _no_programs(arch: str) -> Mapping[str, Blob]:  # noqa: ARG001 - whatever the architecture
    """A renewal waits for no download or build: it leaves binaries as they are."""
    return {name: Blob(sha256="", size=0, local=Path()) for component in ALL for name in component.programs}
