"""A Deployment of the cluster's own: whether all its Pods are those that were asked for, and available."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hardway.desired import Live
from hardway.inventory import Host

NAMESPACE = "kube-system"


def available(live: Live, host: Host, name: str) -> str | None:
    """None if every Pod of a Deployment is of its present template and available; else how many are, and what holds up one.

    Without a network of ours no Pod runs before the operator's is there, and nobody waits for it.
    """
    if live.inventory.network == "none":
        return None
    answer = live.api(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}", host=host)
    if answer.status != 200:
        return f"the API server answers {answer.status} to a question for Deployment {name}"
    found = answer.json()
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return f"nobody has looked at Deployment {name} yet: is a controller manager well?"
    updated, ready = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    older = status.get("replicas", 0) - updated
    if updated == ready == wanted and not older:
        return None
    left = f", and {older} of before is still there" if older else ""
    return f"{min(updated, ready)} of {wanted} Pods of Deployment {name} are up{left}" + _held_up(live, host, found["spec"]["selector"])


def _held_up(live: Live, host: Host, selector: Mapping[str, Any]) -> str:
    """What the first Pod that is not ready waits for, in the words of whoever knows."""
    labels = ",".join(f"{key}%3D{value}" for key, value in selector["matchLabels"].items())
    answer = live.api(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={labels}", host=host)
    words = (word for pod in answer.json()["items"] for word in _words(pod["status"])) if answer.status == 200 else iter(())
    return f": {word}" if (word := next(words, "")) else ""


def _words(status: Mapping[str, Any]) -> Iterator[str]:
    for container in status.get("containerStatuses", ()):
        if waiting := container["state"].get("waiting"):
            yield " ".join(filter(None, (waiting["reason"], waiting.get("message"))))
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition['reason']}: {condition['message']}"
