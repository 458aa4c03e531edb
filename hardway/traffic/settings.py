"""What a run of traffic is told: which cluster, with which Pods, for how long at most. It passes to a process of its own as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from hardway.desired import Toleration


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which cluster, and what there is to be asked of it."""

    kubeconfig: str
    kubectl: str  # reads it
    context: str = ""
    hosts: tuple[str, ...] = ()  # those with API servers, by which instances are named
    image: str = ""  # agnhost; no Pods are made if empty
    pull_secret: str = ""
    tolerations: tuple[Toleration, ...] = ()
    must: bool = True  # Pods that do not come are a Mistake; else what needs them is left out
    longest: int = 3600  # seconds after which the load ends by itself

    @property
    def json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """What `json` has written."""
        values: dict[str, Any] = json.loads(text)
        tolerations = tuple(Toleration(**one) for one in values.pop("tolerations"))
        return cls(**{**values, "hosts": tuple(values["hosts"]), "tolerations": tolerations})
