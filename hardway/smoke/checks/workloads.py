"""kube-controller-manager: what its controllers make of workloads and Services, with Pods whose kubelet the check plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hardway.components import kube_controller_manager
from hardway.desired import Check, Stage
from hardway.smoke import nodes
from hardway.smoke.checks import leader
from hardway.smoke.removal import NAME
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Journal, eventually, require

COMPONENT = kube_controller_manager.COMPONENT
WITHIN = 15.0  # seconds
RETRIED = 30.0  # the Job controller waits ten seconds before it tries again
ADDRESSES = ("192.0.2.1", "192.0.2.2")  # for documentation: RFC 5737


def replication(stage: Stage) -> str:
    """Scale a ReplicationController and a Deployment, and delete a Pod of each."""
    node, account = _place(stage)
    evidence = []
    for kind, path in (("ReplicationController", "/api/v1"), ("Deployment", "/apis/apps/v1")):
        name = unique(kind.lower())
        look = leader.journal(stage, COMPONENT)
        labels = {NAME: name}
        template = {"metadata": {"labels": labels}, "spec": nodes.spec(account, {NAME: node})}
        selector: Mapping[str, Any] = labels if path == "/api/v1" else {"matchLabels": labels}
        body = {"kind": kind, "metadata": {"name": name}, "spec": {"replicas": 2, "selector": selector, "template": template}}
        plural = f"{path}/namespaces/{stage.namespace}/{kind.lower()}s"
        stage.create(plural, body)
        first = _pods(stage, name, f"{kind} {name} to have 2 Pods", look, lambda names: len(names) == 2)
        killed = first[0]
        require(stage.request("DELETE", f"/api/v1/namespaces/{stage.namespace}/pods/{killed}"), "the Pod to be deleted")
        expected = f"{kind} {name} to have another Pod instead of {killed}"
        _pods(stage, name, expected, look, lambda names, gone=killed: len(names) == 2 and gone not in names)  # type: ignore[misc]
        for replicas in (3, 1):
            require(stage.request("PATCH", f"{plural}/{name}", {"spec": {"replicas": replicas}}), f"{kind} {name} to be scaled")
            expected = f"{kind} {name} to have {replicas} Pods"
            _pods(stage, name, expected, look, lambda names, wanted=replicas: len(names) == wanted)  # type: ignore[misc]
        evidence.append(f"{kind} {name}: 2 Pods; {killed} was deleted and another came; scaled to 3 and to 1")
    return "\n".join(evidence)


def job(stage: Stage) -> str:
    """Let a Job's first Pod fail and the others succeed."""
    node, account = _place(stage)
    name = unique("job")
    look = leader.journal(stage, COMPONENT)
    path = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs"
    template = {"metadata": {"labels": {NAME: name}}, "spec": {**nodes.spec(account, {NAME: node}), "restartPolicy": "Never"}}
    stage.create(path, {"kind": "Job", "metadata": {"name": name}, "spec": {"completions": 2, "parallelism": 2, "template": template}})
    seen = _pods(stage, name, f"the Job {name} to have 2 Pods", look, lambda names: len(names) == 2)
    for pod, phase in zip(seen, ("Failed", "Succeeded"), strict=True):
        _play(stage, pod, {"phase": phase})
    told = f"the Job {name} to try again, since {seen[0]} has failed"
    again = _pods(stage, name, told, look, lambda names: len(set(names) - set(seen)) == 1, within=RETRIED)
    (retry,) = set(again) - set(seen)
    _play(stage, retry, {"phase": "Succeeded"})

    def complete() -> str | None:
        status = require(stage.api(f"{path}/{name}"), "the Job to be read").json()["status"]
        ends = [one["type"] for one in status.get("conditions", ()) if one["status"] == "True"]
        counts = (status.get("succeeded", 0), status.get("failed", 0))
        return None if "Complete" in ends and counts == (2, 1) else f"succeeded {counts[0]}, failed {counts[1]}, {', '.join(ends)}"

    eventually(stage, f"the Job {name} to be complete, with 2 succeeded and 1 failed", complete, within=WITHIN, look=look)
    return f"Job {name}, completions 2: {seen[0]} failed, {seen[1]} succeeded, {retry} came and succeeded; Complete, succeeded 2, failed 1"


def endpoint_slice(stage: Stage) -> str:
    """Follow a Service's slices while its Pods become ready, unready, and go."""
    node, account = _place(stage)
    name = unique("service")
    look = leader.journal(stage, COMPONENT)
    space = f"/api/v1/namespaces/{stage.namespace}"
    port = {"port": 80, "targetPort": 8080}
    stage.create(f"{space}/services", {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": {NAME: name}, "ports": [port]}})
    pods = []
    for address in ADDRESSES:
        pods.append(unique("pod"))
        nodes.pod(stage, pods[-1], {**nodes.spec(account, {NAME: node}), "nodeName": node}, labels={NAME: name})
        _play(stage, pods[-1], {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], **_ready(ready=True)})

    def follows(*ready: str, unready: tuple[str, ...] = ()) -> None:
        wanted = {**dict.fromkeys(ready, True), **dict.fromkeys(unready, False)}

        def so() -> str | None:
            path = f"/apis/discovery.k8s.io/v1/namespaces/{stage.namespace}/endpointslices"
            answer = stage.api(f"{path}?labelSelector=kubernetes.io/service-name%3D{name}")
            slices = require(answer, "slices to be listed").json()["items"]
            found = {one["addresses"][0]: one["conditions"]["ready"] for items in slices for one in items.get("endpoints") or ()}
            return None if found == wanted else f"{found or 'no endpoints'}"

        expected = f"the slices of {name} to have {', '.join(ready) or 'nothing'} ready" + (f", {unready[0]} not" if unready else "")
        eventually(stage, expected, so, within=WITHIN, look=look)

    first, second = ADDRESSES
    follows(first, second)
    _play(stage, pods[1], _ready(ready=False))
    follows(first, unready=(second,))
    _play(stage, pods[1], _ready(ready=True))
    follows(first, second)
    require(stage.request("DELETE", f"{space}/pods/{pods[0]}"), "the Pod to be deleted")
    follows(second)
    return (
        f"endpointslices of Service {name}: {first} and {second} ready; {second} not ready while its Pod was not; "
        f"{first} gone when its Pod was deleted"
    )


def _place(stage: Stage) -> tuple[str, str]:
    """A node for the Pods, and an account."""
    node = unique("node")
    nodes.node(stage, node)
    return node, nodes.account(stage)


def _pods(
    stage: Stage, label: str, expected: str, look: Journal | None, enough: Callable[[list[str]], bool], within: float = WITHIN
) -> list[str]:
    """The Pods with a label, once they are as they should be; the oldest first."""
    names: list[str] = []

    def so() -> str | None:
        path = f"/api/v1/namespaces/{stage.namespace}/pods?labelSelector={NAME}%3D{label}"
        names[:] = [pod["metadata"]["name"] for pod in require(stage.api(path), "Pods to be listed").json()["items"]]
        return None if enough(names) else f"it has {', '.join(names) or 'none'}"

    eventually(stage, expected, so, within=within, look=look)
    return names


def _play(stage: Stage, pod: str, status: Mapping[str, Any]) -> None:
    """Say of a Pod what a kubelet would."""
    path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod}/status"
    require(stage.request("PATCH", path, {"status": status}), "the Pod's status to be written")


def _ready(*, ready: bool) -> Mapping[str, Any]:
    return {"conditions": [{"type": "Ready", "status": str(ready)}]}


CHECKS = (
    Check(
        name="controllers.replication",
        component="kube-controller-manager",
        proves="a ReplicationController and a Deployment replace a Pod that is gone, and scale up and down",
        run=replication,
        needs=frozenset({"api", "hosts"}),
        sabotage="the controller managers run without replicationcontroller-controller",
    ),
    Check(
        name="controllers.job",
        component="kube-controller-manager",
        proves="a Job makes Pods until enough have succeeded, also after one has failed, and counts both",
        run=job,
        needs=frozenset({"api", "hosts"}),
        sabotage="the controller managers run without job-controller",
    ),
    Check(
        name="controllers.endpointslice",
        component="kube-controller-manager",
        proves="a Service's slices follow its ready Pods, up and down",
        run=endpoint_slice,
        needs=frozenset({"api", "hosts"}),
        sabotage="the controller managers run without endpointslice-controller",
    ),
)
