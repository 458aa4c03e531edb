"""Which images are made here, what each holds, and the archives of them in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hardway.binaries.cache import CACHED, Binary, Shelf
from hardway.binaries.images.busybox import Busybox
from hardway.binaries.images.oci import Image, pack
from hardway.errors import Mistake
from hardway.inventory import Versions

SUFFIX = ".oci"
FORMAT = 1  # another one where the same would be packed otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image: its program at the root of the file system, run as the published image runs it."""

    program: str
    user: str
    command: tuple[str, ...] = ()
    busybox: bool = False
    folders: tuple[str, ...] = ()

    def image(self, reference: str, program: Binary, scratch: Path) -> Image:
        """What is packed; what has to be brought for it goes into `scratch`."""
        name = f"/{program.name}"
        programs, links = {name: program.path}, dict[str, str]()
        if self.busybox:
            busybox = Busybox.here(program.arch, scratch, what=reference)
            programs["/bin/busybox"] = busybox.path
            links = {applet: "/bin/busybox" for applet in busybox.applets if applet != "/bin/busybox"}
        return Image(
            reference=reference,
            arch=program.arch,
            programs=programs,
            links=links,
            folders=self.folders,
            entrypoint=(name,),
            command=self.command,
            user=self.user,
        )


RECIPES: Mapping[str, Recipe] = {
    # The published one is an Alpine Linux; with a shell and what it calls, checks see no difference.
    "agnhost": Recipe(program="agnhost", user="", command=("pause",), busybox=True, folders=("/uploads",)),
    "coredns": Recipe(program="coredns", user="65532:65532"),
    "metrics-server": Recipe(program="metrics-server", user="65534"),
    "pause": Recipe(program="pause", user="65535:65535"),
}


def is_image(name: str) -> bool:
    """Whether a name is that of an archive made here."""
    return name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in RECIPES


def programs(names: Collection[str]) -> set[str]:
    """What images are made of."""
    return {RECIPES[name.removesuffix(SUFFIX)].program for name in names}


def bring(
    name: str, found: Mapping[str, Binary], versions: Versions, cache: Path, tell: Callable[[str], None], *, missing: bool = True
) -> Binary:
    """One image's archive, from the cache if it was packed of the same program before; `found` has its program."""
    short = name.removesuffix(SUFFIX)
    recipe, reference = RECIPES[short], versions.image(short)
    program = found[recipe.program]
    shelf = Shelf(cache / "images" / short / versions.of(short) / program.arch)
    # Without the busybox: the operator's system may bring another one any day, and no host has to get a new image for that.
    key = f"oci-{hashlib.sha256(json.dumps([FORMAT, reference, asdict(recipe), program.sha256]).encode()).hexdigest()[:12]}"
    source = CACHED
    if (entry := shelf.find(key, name)) is None:
        if not missing:
            raise Mistake.at(name, "is not in the local cache", "run ./inv binaries")
        with shelf.locked(tell) as scratch:
            if (entry := shelf.verify(key, name)) is None:
                made = pack(recipe.image(reference, program, scratch), scratch / name)
                source = f"packed of {program.name} {program.version}"
                entry = shelf.put(key, name, made, origin=source)
                tell(f"{name}: packed {reference} of {program.name} {program.version}, {entry.size / 1e6:.1f} MB")
    return Binary(
        name=name,
        version=versions.of(short),
        arch=program.arch,
        sha256=entry.sha256,
        size=entry.size,
        path=shelf.place(key, name),
        source=source,
        origin=entry.origin,
    )
