"""What an operator can put right: where, what, next step; several at once.

Mistake is the only error that the engine raises on purpose. Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, told in one line."""

    where: str
    what: str
    next_step: str = ""
    warning: bool = False  # told, and the run goes on

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        line = f"{line}; {self.next_step}" if self.next_step else line
        return " ".join(line.split())


class Mistake(Exception):  # noqa: N818 - the project's noun for what an operator can put right
    """Stops the run; holds every finding, one line each."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings

    @classmethod
    def at(cls, where: str, what: str, next_step: str = "") -> Mistake:
        return cls(Finding(where=where, what=what, next_step=next_step))


class LockedError(Mistake):
    """Something is under a passphrase, and there is nobody to give it."""


class Retreat(Mistake):
    """A unit did not come up with its new files, so its host has gone back to those before."""


class Unready(Mistake):
    """All is pushed but what comes after it: what runs in Pods was not seen to be ready."""
