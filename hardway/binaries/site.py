"""Where release files are served, and how patient a download is."""

from __future__ import annotations

from dataclasses import dataclass


class Unreachable(Exception):  # noqa: N818 - no error by itself: another source may do
    """No connection to a release site: a network that is closed, or a proxy that refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """How release files are reached: at the projects' own hosts, or all below a mirror's URL."""

    mirror: str | None = None
    connect: float = 4.0  # seconds until a site counts as unreachable
    read: float = 30.0  # seconds without a byte until a transfer counts as cut
    attempts: int = 5
    pause: float = 1.0  # seconds before the second attempt, twice as many before the third, and so on

    def url(self, file: str) -> str:
        """Where a file, named by host and path, is served."""
        return f"{self.mirror.rstrip('/')}/{file}" if self.mirror else f"https://{file}"
