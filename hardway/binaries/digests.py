"""SHA-256 digests of release files: committed in `upstream/`, remembered for a cluster, published beside a release."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardway.errors import Mistake

_DIGEST = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


def parse(text: str, *, where: str) -> dict[str, str]:
    """File name -> digest, of a checksum file; a file of one bare digest has the name ''."""
    found = {}
    lines = text.splitlines()
    first, last = _signed(lines)
    for number, line in enumerate(lines[first:last], start=first + 1):
        if not line.strip() or line.startswith("#"):
            continue
        digest, _, name = line.strip().partition(" ")
        if not _DIGEST.fullmatch(digest):
            raise Mistake.at(f"{where}:{number}", "this is no line of a SHA-256 checksum file", "look at what the site serves there")
        found[name.strip().removeprefix("*")] = digest.lower()
    return found


def _signed(lines: list[str]) -> tuple[int, int]:
    """From where to where the text of a clear-signed message goes; of a plain one, all of it."""
    if lines[:1] == ["-----BEGIN PGP SIGNED MESSAGE-----"] and "" in lines and "-----BEGIN PGP SIGNATURE-----" in lines:
        return lines.index("") + 1, lines.index("-----BEGIN PGP SIGNATURE-----")
    return 0, len(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A digest that a file must have, and who says so."""

    sha256: str
    by: Literal["committed", "pinned", "published"]
    where: str

    def __str__(self) -> str:
        return f"{self.by} in {self.where}"


@dataclass(frozen=True, slots=True)
class Committed:
    """The digests of one project that are part of this repository: lines of sha256sum, by host and path."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "SHA256SUMS"

    def read(self) -> dict[str, str]:
        """All of them, by release file."""
        return parse(self.path.read_text(), where=str(self.path)) if self.path.exists() else {}

    def write(self, digests: Mapping[str, str]) -> None:
        """Replace all of them."""
        head = "# SHA-256 of release files, as published. Changed only by `./inv binaries --lock`.\n"
        _replace(self.path, head + "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)))


@dataclass(frozen=True, slots=True)
class Pins:
    """What a cluster took at its first use, where no digest is committed; without a path nothing is remembered."""

    path: Path | None

    def read(self) -> dict[str, str]:
        """All pins, by release file."""
        if self.path is None or not self.path.exists():
            return {}
        try:
            pins = json.loads(self.path.read_text())["sha256"]
            if all(isinstance(name, str) and _DIGEST.fullmatch(digest) for name, digest in pins.items()):
                return dict(pins)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise Mistake.at(str(self.path), "cannot be read as pins", "put it back from a copy, or remove it to trust at first use again")

    def remember(self, name: str, sha256: str) -> None:
        """Pin one release file."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _replace(self.path, json.dumps({"schema": 1, "sha256": dict(sorted({**self.read(), name: sha256}.items()))}, indent=2) + "\n")


def known(name: str, committed: Committed, pins: Pins) -> Known | None:
    """What a release file must be, if anybody knows."""
    if (digest := committed.read().get(name)) is not None:
        return Known(sha256=digest, by="committed", where=str(committed.path))
    if pins.path is not None and (digest := pins.read().get(name)) is not None:
        return Known(sha256=digest, by="pinned", where=str(pins.path))
    return None


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)
