"""A Deployment is up when all its Pods are of its present template and available; else it is told what holds one up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from hardway.components.deployment import available
from hardway.desired import Answer, Live
from hardway.inventory import Host, Inventory, load

INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")
HOST = INVENTORY.on("controller")[0]
UP = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
PULLING = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}
HOMELESS = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}]}


@dataclass
class Api:
    """An API server with one Deployment of two replicas."""

    status: Mapping[str, Any] | None
    pods: tuple[Mapping[str, Any], ...] = ()
    inventory: Inventory = INVENTORY
    asked: list[str] = field(default_factory=list)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        assert host == HOST
        self.asked.append(path)
        if path == "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dx":
            return answer(200, {"items": [{"status": status} for status in self.pods]})
        assert path == "/apis/apps/v1/namespaces/kube-system/deployments/x"
        if self.status is None:
            return answer(404, {})
        spec = {"replicas": 2, "selector": {"matchLabels": {"k8s-app": "x"}}}
        return answer(200, {"metadata": {"generation": 2}, "spec": spec, "status": self.status})


def answer(status: int, body: object) -> Answer:
    return Answer(status=status, body=json.dumps(body).encode())


def asked(api: Api) -> str | None:
    return available(cast("Live", api), HOST, "x")


def test_all_pods_new_and_available_is_up() -> None:
    assert asked(Api(UP)) is None


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (None, "the API server answers 404 to a question for Deployment x"),
        ({}, "nobody has looked at Deployment x yet"),
        (UP | {"observedGeneration": 1}, "nobody has looked at Deployment x yet"),
        ({"observedGeneration": 2}, "0 of 2 Pods of Deployment x are up"),
        (UP | {"availableReplicas": 1}, "1 of 2 Pods of Deployment x are up"),
        (UP | {"updatedReplicas": 1}, "1 of 2 Pods of Deployment x are up"),
        (UP | {"replicas": 3}, "2 of 2 Pods of Deployment x are up, and 1 of before is still there"),
    ],
)
def test_what_is_not_up_is_told(status: Mapping[str, Any] | None, why: str) -> None:
    assert (asked(Api(status)) or "").startswith(why)


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        (PULLING, ": ImagePullBackOff no such image"),
        (HOMELESS, ": Unschedulable: 0/2 nodes"),
        ({"containerStatuses": [{"state": {"running": {}}}]}, "up"),
    ],
)
def test_what_holds_up_a_pod_is_told(pod: Mapping[str, Any], why: str) -> None:
    assert (asked(Api({"observedGeneration": 2}, ({}, pod))) or "").endswith(why)


def test_nobody_waits_for_pods_before_the_operators_network_is_there() -> None:
    api = Api({}, inventory=replace(INVENTORY, network="none"))

    assert asked(api) is None
    assert api.asked == []
