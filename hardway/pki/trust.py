"""Which generations of an authority are trusted, and which one signs: derived from the certificates that are there (8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


def age(name: str) -> tuple[str, int, str]:
    """Order the names of generations, oldest first: 2026a, 2026b, ... 2026aa, 2027a."""
    return name[:4], len(name), name


class Phase(Enum):
    """How far the replacement of an authority has come."""

    SETTLED = "settled"  # one generation
    PREPARED = "prepared"  # a new one is trusted, an older one still signs
    SWITCHED = "switched"  # the newest signs, an older one is still trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One generation of one authority. Each has a subject and a key of its own."""

    authority: str
    name: str  # such as 2026a
    common_name: str
    ski: str
    not_before: datetime
    not_after: datetime
    certificate: str  # PEM
    above: str = ""  # the certificates above it up to a root, if it is none

    @property
    def file(self) -> str:
        """Its name in state/."""
        return f"pki/{self.authority}/authority-{self.name}.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """A bundle, oldest first as in the file, and who signs."""

    trusted: tuple[Generation, ...]
    signer: Generation
    retired: tuple[Generation, ...] = ()  # once trusted, and known by that to be ours

    @property
    def phase(self) -> Phase:
        if len(self.trusted) == 1:
            return Phase.SETTLED
        return Phase.SWITCHED if self.signer == self.trusted[-1] else Phase.PREPARED

    @property
    def bundle(self) -> str:
        """What readers of the authority trust, as PEM."""
        return "".join(generation.certificate for generation in self.trusted)

    @property
    def chained(self) -> str:
        """The same with what is above them, for readers that want to see a root."""
        return "".join(generation.certificate + generation.above for generation in self.trusted)

    @classmethod
    def derive(cls, generations: Iterable[Generation], issuers: Iterable[str]) -> Trust:
        """The signer is the newest generation that has signed a certificate; before the first, the oldest.

        `issuers` are the authority key identifiers of the certificates found. So a generation that was only added signs nothing until
        something has been issued with it, and a switch that was interrupted goes on with the newer one.
        """
        trusted = tuple(sorted(generations, key=lambda generation: age(generation.name)))
        seen = frozenset(issuers)
        signing = [generation for generation in trusted if generation.ski in seen]
        return cls(trusted=trusted, signer=signing[-1] if signing else trusted[0])
