"""Objects that have to go: a run's own at its end, and what runs that were killed have left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from hardway.desired import EXPIRES, MANAGED_BY, Answer
from hardway.errors import Mistake

NAME = "hardway-smoke"
LABEL = {MANAGED_BY: NAME}
SELECTOR = f"labelSelector={MANAGED_BY}%20in%20({NAME},hardway-traffic)"
NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
# What checks make in a namespace that is not theirs to delete: plural -> API group.
IN_A_SPACE = {"pods": "", "configmaps": "", "services": "", "networkpolicies": "networking.k8s.io", "jobs": "batch"}
AT_ONCE_AND_FOR_ALL = {"gracePeriodSeconds": 0}  # the API forgets a Pod that is deleted so before its kubelet has heard of it
# Else a Job leaves them: https://kubernetes.io/docs/concepts/architecture/garbage-collection/#orphaned-dependents
WITH_ITS_PODS = {"propagationPolicy": "Background"}
OLD = 900.0  # seconds; a run that does not say when it expires is over sooner, so what is older was left


class Api(Protocol):
    def api(self, path: str) -> Answer: ...
    def request(self, method: str, path: str, body: Any = None) -> Answer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One object that carries the label."""

    path: str
    age: float  # seconds, by the API server's clock
    over: bool  # nobody needs it any more

    def __str__(self) -> str:
        plural, name = self.path.rsplit("/", 2)[1:]
        return f"{plural.removesuffix('s')}/{name}"


def leftovers(api: Api, space: str = "") -> tuple[Leftover, ...]:
    """What carries the label: in one namespace, or what is in none; what has to go first comes last."""
    kinds = [place(space, plural) for plural in IN_A_SPACE] if space else [NAMESPACES, NODES, WEBHOOKS]
    return tuple(one for kind in kinds for one in _listed(api, kind))


def place(space: str, plural: str) -> str:
    """Where objects of a kind are in a namespace."""
    group = IN_A_SPACE[plural]
    return f"/apis/{group}/v1/namespaces/{space}/{plural}" if group else f"{NAMESPACES}/{space}/{plural}"


def remove(api: Api, *paths: str) -> list[str]:
    """Delete objects, Pods as fast as their own specs say; those that are neither gone nor going."""

    def refused(path: str) -> str | None:
        try:
            answer = api.request("DELETE", path, WITH_ITS_PODS if "/jobs/" in path else None)
        except Mistake as mistake:
            return str(mistake)
        # 409: a namespace that is already going says so.
        return None if answer.status in {200, 202, 404, 409} else f"the API server answers {answer.status}"

    return [f"{path} is still there: {reason}" for path in paths if (reason := refused(path))]


def pods(api: Api, spaces: Iterable[str]) -> list[str]:
    """The Pods of namespaces, which are deleted one by one, since no kubelet says that they have ended."""
    return [one.path for space in spaces for one in _listed(api, f"{NAMESPACES}/{space}/pods", "")]


def _listed(api: Api, path: str, selector: str = SELECTOR) -> list[Leftover]:
    answer = api.api(f"{path}?{selector}" if selector else path)
    if answer.status != 200:
        raise Mistake.at("the API", f"it answers {answer.status} to GET {path}")
    return [_leftover(path, item["metadata"], answer.date) for item in answer.json()["items"]]


def _leftover(path: str, metadata: Any, now: float) -> Leftover:
    age = now - datetime.fromisoformat(metadata["creationTimestamp"]).timestamp()
    expires = metadata.get("labels", {}).get(EXPIRES, "")
    return Leftover(path=f"{path}/{metadata['name']}", age=age, over=now > int(expires) if expires.isdecimal() else age > OLD)
