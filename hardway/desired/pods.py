"""How Pods of ours have to be, for a cluster to run them: those of checks, and those that keep load on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hardway.errors import Mistake

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
MANAGED_BY = "app.kubernetes.io/managed-by"  # a label of all that we make for a while
EXPIRES = "hardway.local/expires"  # a label of what goes on for longer: seconds since the epoch after which nobody needs it any more
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A taint that Pods put up with."""

    key: str
    value: str | None = None  # any if None
    effect: str = ""  # any if empty

    @classmethod
    def read(cls, text: str) -> Self:
        """As it is written on a command line, which is how `kubectl taint` writes a taint: KEY[=VALUE][:EFFECT]."""
        found = re.fullmatch(r"([\w./-]+)(?:=([\w.-]*))?(?::(\w+))?", text)
        if found is None or (found[3] and found[3] not in EFFECTS):
            raise Mistake.at("--toleration", f"{text!r} is none", f"write KEY[=VALUE][:EFFECT], with the effect {' or '.join(EFFECTS)}")
        return cls(key=found[1], value=found[2], effect=found[3] or "")

    def covers(self, taint: Mapping[str, str]) -> bool:
        """Whether it is this taint that is put up with."""
        return self.key == taint["key"] and self.value in {None, taint.get("value", "")} and self.effect in {"", taint["effect"]}

    def document(self) -> dict[str, str]:
        """As a Pod's spec has it."""
        how = {"operator": "Exists"} if self.value is None else {"operator": "Equal", "value": self.value}
        return {"key": self.key, **how, **({"effect": self.effect} if self.effect else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What a cluster of others may ask of Pods; nothing of it has to be said of a cluster of ours."""

    image: str = ""  # agnhost, under the name that it has there; as the inventory has it if empty
    pull_secret: str = ""  # its name in the run's namespace
    architectures: tuple[str, ...] = ("amd64", "arm64", "ppc64le", "s390x")  # for which agnhost is published
    tolerations: tuple[Toleration, ...] = ()
    nodes: int = 0  # at most so many; all if 0


def container(image: str, name: str, *args: str, memory: str = "64Mi", **fields: Any) -> dict[str, Any]:
    """A small container within PodSecurity's `restricted`; whatever else it has is named as in the API: `command`, `ports`."""
    return {
        "name": name,
        "image": image,
        "args": list(args),
        "resources": {"requests": {"cpu": "10m", "memory": memory}, "limits": {"cpu": "500m", "memory": memory}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **fields,
    }
