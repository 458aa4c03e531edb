"""A client certificate that a daemon asks the cluster for, instead of having one brought to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hardway.inventory import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What it may be, and how the daemon comes by it. A request for anything else is refused."""

    common_name: str  # {host.name} is filled in
    organization: str
    authority: str  # whose certificate it is, by its name in certs/
    signer: str  # signerName of the CertificateSigningRequest
    usages: frozenset[frozenset[str]]  # one of these, exactly
    groups: str  # of whoever asks with the token
    token: PurePosixPath  # where the daemon reads it
    path: PurePosixPath  # where it keeps what it was given: certificate and key

    def name(self, host: Host) -> str:
        """As whom the daemon comes."""
        return self.common_name.replace("{host.name}", host.name)

    def subject(self, host: Host) -> str:
        return f"CN={self.name(host)}, O={self.organization}"
