"""Files for others to read: replaced whole, so that nobody reads half of one."""

from __future__ import annotations

import os
from pathlib import Path

from hardway.errors import Mistake
from hardway.state import replacing


def write(path: Path, text: str) -> None:
    """Replace a file. It may be read by all: a collector or a web server is another user, and no key is ever in it."""
    try:
        with replacing(path) as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text.encode())
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be written: {error.strerror}", "name a file in a directory that is there") from None
