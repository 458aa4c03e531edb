"""One member's part of a snapshot or a restore: what member.sh is called with."""

from __future__ import annotations

from pathlib import Path

SCRIPT = Path(__file__).with_name("member.sh").read_text()


def ask(function: str, *words: str) -> tuple[str, ...]:
    """A command for a host that calls one function of member.sh."""
    return ("sh", "-c", SCRIPT, "sh", function, *words)
