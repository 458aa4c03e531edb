"""Commits to digests: what the release sites publish now, written into `upstream/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardway.binaries.digests import Committed
from hardway.binaries.download import Downloads
from hardway.binaries.site import Site, Unreachable
from hardway.binaries.upstream import PROJECTS, UPSTREAM
from hardway.errors import Mistake
from hardway.inventory import Inventory

ARCHITECTURES = ("amd64", "arm64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed digest that is new or another one."""

    file: str
    old: str | None
    new: str


def lock(inventory: Inventory, tell: Callable[[str], None], *, site: Site | None = None, folder: Path = UPSTREAM) -> tuple[Change, ...]:
    """Write the published digests of the inventory's versions, all architectures; all of them or none."""
    site = site or Site(mirror=inventory.binaries.mirror)
    changes: list[Change] = []
    texts: list[tuple[Committed, dict[str, str]]] = []
    with Downloads.of(site) as downloads:
        for project in PROJECTS:
            version = project.version(inventory)
            if project.release.digests is None:
                tell(f"{project.name} {version}: publishes no digests")
                continue
            committed = Committed(folder / project.name)
            now = committed.read()
            tell(f"{project.name} {version}: asking for its published digests")
            for arch in ARCHITECTURES:
                for file in project.release_files(version, arch):
                    try:
                        known = downloads.published(project, file, version, arch)
                    except Unreachable as error:
                        raise Mistake.at(
                            str(error), "cannot be reached; nothing is changed", "lock where it can be, or set binaries.mirror"
                        ) from error
                    if known and now.get(file) != known.sha256:
                        changes.append(Change(file=file, old=now.get(file), new=known.sha256))
                        now[file] = known.sha256
            texts.append((committed, now))
    if changes:
        for committed, digests in texts:
            committed.write(digests)
    return tuple(changes)
