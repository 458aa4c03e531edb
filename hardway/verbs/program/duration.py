"""A time as an operator writes it."""

from __future__ import annotations

import re
from datetime import timedelta

from hardway.errors import Mistake


def duration(option: str, text: str) -> timedelta:
    """Such as 30d, 12h or 90m."""
    found = re.fullmatch(r"(\d{1,6})([dhm])", text)
    if found is None:
        raise Mistake.at(option, f"{text!r} is no time", f"write {option} 30d, or 12h, or 90m")
    return timedelta(minutes=int(found[1]) * {"d": 1440, "h": 60, "m": 1}[found[2]])
