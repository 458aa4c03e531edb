"""Programs taken out of a release archive."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from hardway.errors import Mistake

CHUNK = 1 << 18


def extract(archive: Path, members: Mapping[str, str], folder: Path, *, where: str) -> dict[str, Path]:
    """The files of a .tar.gz named by `members` (name -> path in the archive), written into a folder."""
    try:
        made = {}
        with tarfile.open(archive, "r:gz") as tar:
            for name, member in members.items():
                if (source := tar.extractfile(member)) is None:
                    raise Mistake.at(where, f"{member} in it is no regular file", "look at what the site serves")
                made[name] = folder / name
                with source, made[name].open("wb") as file:
                    while chunk := source.read(CHUNK):
                        file.write(chunk)
    except KeyError as error:
        raise Mistake.at(where, str(error.args[0]), "look at what the site serves") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise Mistake.at(where, f"is a broken archive: {error}", "look at what the site serves") from error
    return made
