"""Brings upstream programs into the local cache: from there, from a release site, or by a Go build."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hardway.binaries import digests, images, upstream
from hardway.binaries.archive import extract
from hardway.binaries.build import build
from hardway.binaries.cache import CACHED, Binary, Entry, Shelf
from hardway.binaries.site import Site, Unreachable
from hardway.binaries.source import Source
from hardway.binaries.upstream import UPSTREAM, Project
from hardway.errors import Mistake
from hardway.inventory import Inventory

if TYPE_CHECKING:
    from hardway.binaries.download import Downloads

CACHE = Path("~/.cache/hardway").expanduser()
RELEASE = "release"


def fetch(  # noqa: PLR0913 - the world is an argument
    programs: Collection[str],
    arch: str,
    inventory: Inventory,
    cache: Path,
    tell: Callable[[str], None],
    *,
    pins: Path | None = None,
    site: Site | None = None,
    folder: Path = UPSTREAM,
    bring: bool = True,
) -> dict[str, Binary]:
    """Bring programs of the inventory's versions into the cache; some milliseconds if they are there.

    `coredns.oci` and its like are images, packed of programs. `pins` is the file that remembers a cluster's first use, `tell` takes
    lines of progress. Without `bring` what is missing is refused.
    """
    site = site or Site(mirror=inventory.binaries.mirror)
    packed = {name for name in programs if images.is_image(name)}
    found: dict[str, Binary] = {}
    try:
        for project, names in upstream.by_project((set(programs) - packed) | images.programs(packed)):
            wanted = _Wanted(
                project=project,
                version=project.version(inventory),
                arch=arch,
                inventory=inventory,
                cache=cache,
                tell=tell,
                committed=digests.Committed(folder / project.name),
                pins=digests.Pins(pins),
                site=site,
                folder=folder,
            )
            found |= wanted.bring(names, missing=bring)
        for name in sorted(packed):
            found[name] = images.bring(name, found, inventory.versions, cache, tell, missing=bring)
    except OSError as error:
        raise Mistake.at(str(error.filename or cache), error.strerror or str(error), "mend it and run the same again") from error
    return {name: one for name, one in found.items() if name in programs}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Programs of one project, version and architecture, and where they may come from."""

    project: Project
    version: str
    arch: str
    inventory: Inventory
    cache: Path
    tell: Callable[[str], None]
    committed: digests.Committed
    pins: digests.Pins
    site: Site
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.project.name} {self.version}"

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.cache / self.project.name / self.version / self.arch)

    @property
    def sources(self) -> Source:
        return Source.of(self.project, self.version, self.folder, self.cache)

    def bring(self, names: Collection[str], *, missing: bool = True) -> dict[str, Binary]:
        found = self._cached(names, self.shelf.find)
        if len(found) == len(names):
            return found
        if not missing:
            raise Mistake.at(self.label, "is not in the local cache", "run ./inv binaries")
        with self.shelf.locked(self.tell) as scratch:
            # Another run may have brought them while this one waited.
            found |= self._cached([name for name in names if name not in found], self.shelf.verify)
            left = [name for name in names if name not in found]
            if left and self.inventory.binaries.source != "build":
                found |= self._downloaded(left, scratch)
                left = [name for name in names if name not in found]
            if left:
                found |= self._built(left, scratch)
        return {name: found[name] for name in names}

    def _cached(self, names: Collection[str], find: Callable[[str, str], Entry | None]) -> dict[str, Binary]:
        source = self.inventory.binaries.source
        built = self.sources.key if source != "download" else ""
        found = {}
        for name in names:
            if source != "build" and (entry := find(RELEASE, name)) and self._is_trusted(name, entry):
                found[name] = self._binary(name, RELEASE, entry, CACHED)
            elif built and (entry := find(built, name)):
                found[name] = self._binary(name, built, entry, CACHED)
        return found

    def _is_trusted(self, name: str, entry: Entry) -> bool:
        """Whether a cached download is still what a digest says; one that another cluster brought is pinned for this one too."""
        file = self.project.release_file(name, self.version, self.arch)
        known = digests.known(file, self.committed, self.pins)
        if known is None:
            self._refuse_unknown(file)
            self._first_use(file, str(entry.release_sha256))
            return True
        return known.sha256 == entry.release_sha256

    def _refuse_unknown(self, file: str) -> None:
        if self.inventory.binaries.pins == "required":
            raise Mistake.at(
                file,
                "no digest of it is committed or pinned, and the inventory says binaries.pins: required",
                "run ./inv binaries --lock, look at what changes in upstream/ and commit it; or set binaries.source: build",
            )

    def _refuse_undownloadable(self, where: str, what: str) -> None:
        if self.inventory.binaries.source == "download":
            raise Mistake.at(where, what, "set binaries.source: auto, so that it is built")

    def _first_use(self, file: str, sha256: str) -> None:
        self.pins.remember(file, sha256)
        remembered = f"; SHA-256 {sha256} is remembered in {self.pins.path}" if self.pins.path else ""
        self.tell(f"{file}: first use, not pinned{remembered}")

    def _downloaded(self, names: Collection[str], scratch: Path) -> dict[str, Binary]:
        """What a release site gives; nothing if it cannot be reached and a build may do."""
        from hardway.binaries.download import Downloads  # noqa: PLC0415 - httpx2 takes 45 ms to import, and most runs download nothing

        files: dict[str, list[str]] = {}
        for name in names:
            if name in self.project.unreleased:
                self._refuse_undownloadable(name, "is in no release file")
                continue
            if self.shelf.find(RELEASE, name):
                self.tell(f"{name} {self.version}: the cached download is not the one that is known; bringing it anew")
            files.setdefault(self.project.release_file(name, self.version, self.arch), []).append(name)
        found: dict[str, Binary] = {}
        try:
            with Downloads.of(self.site) as downloads:
                for file, inside in files.items():
                    found |= self._release(file, inside, scratch, downloads)
        except Unreachable as error:
            if self.inventory.binaries.source == "download":
                raise Mistake.at(str(error), "cannot be reached", "set binaries.mirror, or binaries.source: build") from error
            self.tell(f"{self.label}: no release site can be reached ({error}); building from Go modules instead")
        return found

    def _release(self, file: str, names: Collection[str], scratch: Path, downloads: Downloads) -> dict[str, Binary]:
        known = digests.known(file, self.committed, self.pins)
        if known is None:
            self._refuse_unknown(file)
        sought = known or downloads.published(self.project, file, self.version, self.arch)
        url = self.site.url(file)
        if sought is None:
            self._refuse_undownloadable(url, f"{self.project.name} publishes no digest, and none is committed")
            self.tell(f"{url}: no digest is published or committed; building from Go modules instead")
            return {}
        self.tell(f"{self.label}: downloading {url}")
        whole = downloads.file(file, sought, self.shelf.partial, self.tell)
        try:
            made = dict.fromkeys(names, whole)
            if (member := self.project.release.member) is not None:
                # All of the archive's programs: the next one asked for is there already.
                members = {name: member.format(program=name, version=self.version, arch=self.arch) for name in self.project.programs}
                made = extract(whole, members, scratch, where=url)
            if known is None:
                self._first_use(file, sought.sha256)
            entries = {name: self.shelf.put(RELEASE, name, path, origin=url, release_sha256=sought.sha256) for name, path in made.items()}
        finally:
            whole.unlink(missing_ok=True)
        return {name: self._binary(name, RELEASE, entries[name], url) for name in names}

    def _built(self, names: Collection[str], scratch: Path) -> dict[str, Binary]:
        sources = self.sources
        if self.inventory.binaries.pins == "required" and not sources.committed:
            raise Mistake.at(
                self.label,
                f"upstream/{self.project.name}/go.sum is of another version, and the inventory says binaries.pins: required",
                "set the version that upstream/ has, or run ./inv binaries --lock where the release site can be reached",
            )
        made = build(sources, list(names), self.arch, scratch, self.tell)
        entries = {name: self.shelf.put(sources.key, name, one.path, origin=one.origin) for name, one in made.items()}
        return {name: self._binary(name, sources.key, entry, entry.origin) for name, entry in entries.items()}

    def _binary(self, name: str, place: str, entry: Entry, source: str) -> Binary:
        return Binary(
            name=name,
            version=self.version,
            arch=self.arch,
            sha256=entry.sha256,
            size=entry.size,
            path=self.shelf.place(place, name),
            source=source,
            origin=entry.origin,
        )
