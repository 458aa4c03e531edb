"""What a component makes on a host beside its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[  # in the order in which a reset takes them away
    "processes",  # of a program in /usr/local/bin, if they outlive their unit
    "groups",  # control groups at the top of the tree, with all that runs in them
    "namespaces",  # of the network, by the beginning of their names
    "interface",  # of the network, and what is plugged into it
    "table",  # of nftables, with its family
    "chains",  # of iptables, by the beginning of their names
    "routes",  # by their protocol
    "user",
    "directory",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Trace:
    """What a component makes on a host beside its files; a reset takes it away with them."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
