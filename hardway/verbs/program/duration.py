"""A time as an operator writes it."""

from __future__ import annotations

import re
from datetime import timedelta

from hardway.errors import Mistake

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def duration(option: str, text: str) -> timedelta:
    """Such as 30d, 12h, 90m or 45s."""
    found = re.fullmatch(r"(\d{1,6})([dhms])", text)
    if found is None:
        raise Mistake.at(option, f"{text!r} is no time", f"write {option} 30d, or 12h, or 90m")
    return timedelta(seconds=int(found[1]) * SECONDS[found[2]])
