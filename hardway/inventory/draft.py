"""What can be understood of an inventory: all of it, or the parts without errors, so that the rules speak up as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hardway.errors import Mistake
from hardway.inventory.document import Document
from hardway.inventory.values import Binaries, Endpoint, Kubelet, Networks, Versions
from hardway.inventory.written import Flags, HostWritten, SshWritten

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The parts of a Written that were understood; None, or left out, is what was not."""

    where: Callable[..., str]  # file, line and field of a place
    cluster: str | None
    hosts: Mapping[str, HostWritten]
    every_host: bool  # whether `hosts` is all of them
    networks: Networks | None
    endpoint: Endpoint | None
    ssh: SshWritten | None
    versions: Versions | None
    flags: Flags
    binaries: Binaries | None
    lab: bool
    kubelet: Kubelet | None
    csr_signer: str | None

    @classmethod
    def of(cls, document: Document) -> Draft:
        data = document.data if isinstance(document.data, dict) else {}
        names = list(data["hosts"]) if isinstance(data.get("hosts"), dict) else []
        hosts = {name: host for name in names if (host := _part(document, HostWritten, "hosts", name))}
        return cls(
            where=document.where,
            cluster=_part(document, str, "cluster"),
            hosts=hosts,
            every_host=bool(names) and len(hosts) == len(names),
            networks=_part(document, Networks, "networks"),
            endpoint=_part(document, Endpoint, "endpoint"),
            ssh=_part(document, SshWritten, "ssh"),
            versions=_part(document, Versions, "versions"),
            flags=_part(document, dict[str, dict[str, str | int | bool]], "flags") or {},  # type: ignore[arg-type] # names are the schema's to check
            binaries=_part(document, Binaries, "binaries"),
            lab=data.get("lab") is not None,
            kubelet=_part(document, Kubelet, "kubelet"),
            csr_signer=_part(document, str, "csr_signer"),
        )


def _part(document: Document, shape: type[T], *at: str) -> T | None:
    if at not in document.lines:
        return None
    try:
        return document.into(shape, *at)
    except Mistake:
        return None
