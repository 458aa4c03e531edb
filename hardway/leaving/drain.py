"""Moves the Pods off a node through the Eviction API, which refuses whatever a PodDisruptionBudget does not allow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from hardway.components.node import NODES
from hardway.desired import Answer
from hardway.errors import Finding, Mistake

Tell = Callable[[str], None]

PAUSE = 1.0  # seconds between two tries
MIRROR = "kubernetes.io/config.mirror"  # of a Pod that a file on the node has made
# The volumes of a Pod whose loss its owner allows:
# https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md#what-types-of-pods-can-prevent-ca-from-removing-a-node
LOSABLE = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"


class Api(Protocol):
    def api(self, path: str) -> Answer: ...
    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One that has to leave, and why it has not yet."""

    namespace: str
    name: str
    uid: str
    going: bool  # it has been asked to end
    loses: str  # what goes with it for good
    why: str = ""

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Self:
        """A Pod as the API server tells it."""
        metadata, spec = found["metadata"], found["spec"]
        ended = found.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        losable = metadata.get("annotations", {}).get(LOSABLE, "").split(",")
        volumes = [one["name"] for one in spec.get("volumes", ()) if "emptyDir" in one and one["name"] not in losable]
        loses = "nothing would make it again" if _controller(found) is None else f"it has data in {', '.join(volumes)}" if volumes else ""
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            going="deletionTimestamp" in metadata,
            loses="" if ended else loses,
        )

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def cordon(api: Api, node: str) -> bool:
    """Let no new Pod come; whether the Node is there."""
    answer = api.request("PATCH", f"{NODES}/{node}", {"spec": {"unschedulable": True}})
    if answer.status not in {200, 404}:
        raise Mistake.at(f"node/{node}", f"the API server refuses to cordon it: {_message(answer)}")
    return answer.status == 200


def movable(api: Api, node: str) -> tuple[Pod, ...]:
    """The Pods that have to leave a node; not those of DaemonSets and of files on it, which belong to it."""
    answer = api.api(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")
    if answer.status != 200:
        raise Mistake.at(f"node/{node}", f"the API server does not tell its Pods: {_message(answer)}")
    return tuple(Pod.parse(found) for found in answer.json()["items"] if not _stays(found))


def refuse_losses(pods: tuple[Pod, ...]) -> None:
    """A Mistake that names every Pod that would be lost, or lose data, for good."""
    lost = [pod for pod in pods if pod.loses and not pod.going]
    if lost:
        step = "delete what nobody needs, or add --force to lose it"
        raise Mistake(*(Finding(where=f"pod/{pod}", what=pod.loses, next_step=step) for pod in lost))


def drain(api: Api, node: str, *, within: float, tell: Tell, ends: bool = True, force: bool = False) -> None:
    """Evict Pods until none is left to move; a Mistake that says for each why it is still there when the time is over.

    Without `ends` nobody on the node is left to end them: those that were asked to end count as gone.
    """
    pause, deadline = threading.Event(), time.monotonic() + within
    asked: set[str] = set()
    while True:
        pods = movable(api, node)
        if not force:  # also one that came meanwhile
            refuse_losses(pods)
        left = [tried for pod in pods if (tried := _tried(api, pod, asked, tell))]
        if not [pod for pod in left if ends or not pod.going]:
            return
        if time.monotonic() > deadline:
            step = f"make room for it, and run it again; or take the node back by `./inv kubectl -- uncordon {node}`"
            raise Mistake(*(Finding(where=f"pod/{pod}", what=f"still on {node}: {pod.why}", next_step=step) for pod in left))
        pause.wait(PAUSE)


def _tried(api: Api, pod: Pod, asked: set[str], tell: Tell) -> Pod | None:
    """The Pod with why it is still there; None if it has gone."""
    if pod.going:
        return replace(pod, why="it was asked to end and has not yet")
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }
    answer = api.request("POST", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/eviction", body)
    match answer.status:
        case 200 | 201:
            tell(f"{pod}: evicted")
            return replace(pod, going=True, why="it was asked to end and has not yet")
        case 404 | 409:  # gone, or another of its name is there
            return None if answer.status == 404 else replace(pod, why=_message(answer))
        case _:
            why = _budget(answer)
            if pod.uid not in asked:
                tell(f"{pod}: {why}")
            asked.add(pod.uid)
            return replace(pod, why=why)


def _budget(answer: Answer) -> str:
    """Why it was refused; 429 names the budget in its causes."""
    try:
        causes = [one["message"] for one in answer.json()["details"]["causes"] if one.get("message")]
    except (ValueError, KeyError, TypeError):
        causes = []
    return "; ".join(causes) or _message(answer)


def _message(answer: Answer) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {answer.status}"


def _controller(found: Mapping[str, Any]) -> str | None:
    owners = found["metadata"].get("ownerReferences", ())
    return next((owner["kind"] for owner in owners if owner.get("controller")), None)


def _stays(found: Mapping[str, Any]) -> bool:
    return MIRROR in found["metadata"].get("annotations", {}) or _controller(found) == "DaemonSet"
