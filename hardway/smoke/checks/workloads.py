"""kube-controller-manager: what its controllers make of workloads and Services, with Pods whose kubelet the check plays.

On clusters of others, where no Node object is made, a Job has real Pods, which end as they are told to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hardway.components import kube_controller_manager
from hardway.desired import Check, Permission, Stage
from hardway.smoke import nodes, pods
from hardway.smoke.checks import leader
from hardway.smoke.removal import NAME
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, Skipped, eventually, require

COMPONENT = kube_controller_manager.COMPONENT
WITHIN = 15.0  # seconds
RETRIED = 30.0  # the Job controller waits ten seconds before it tries again
KEPT = 3600  # seconds after its end for which a Job that a killed run has left stays
# It ends with the code that it is told.
_WAITS = """
while [ ! -s /tmp/end ]; do sleep 0.2; done
read -r code </tmp/end
exit "$code"
"""
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
    """Let a Job's first Pod fail and the others succeed, then delete it with them."""
    name = unique("job")
    look = leader.journal(stage, COMPONENT)
    within = WITHIN if stage.inventory.hosts else pods.WITHIN
    path = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs"
    template = {"metadata": {"labels": {NAME: name}}, "spec": {**_worker(stage), "restartPolicy": "Never"}}
    ends = {"activeDeadlineSeconds": pods.LIFE, "ttlSecondsAfterFinished": KEPT}
    spec = {"completions": 2, "parallelism": 2, "template": template, **ends}
    stage.create(path, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
    seen = _pods(stage, name, f"the Job {name} to have 2 Pods", look, lambda names: len(names) == 2)
    for pod, well in zip(seen, (False, True), strict=True):
        _end(stage, pod, well=well)
    told = f"the Job {name} to try again, since {seen[0]} has failed"
    again = _pods(stage, name, told, look, lambda names: len(set(names) - set(seen)) == 1, within=max(within, RETRIED))
    (retry,) = set(again) - set(seen)
    _end(stage, retry, well=True)

    def complete() -> str | None:
        status = require(stage.api(f"{path}/{name}"), "the Job to be read").json()["status"]
        ends = [one["type"] for one in status.get("conditions", ()) if one["status"] == "True"]
        counts = (status.get("succeeded", 0), status.get("failed", 0))
        return None if "Complete" in ends and counts == (2, 1) else f"succeeded {counts[0]}, failed {counts[1]}, {', '.join(ends)}"

    def gone() -> str | None:
        return None if stage.api(f"{path}/{name}").status == 404 else "it is still there"

    eventually(stage, f"the Job {name} to be complete, with 2 succeeded and 1 failed", complete, within=within, look=look)
    require(stage.request("DELETE", f"{path}/{name}", {"propagationPolicy": "Foreground"}), "the Job to be deleted")
    eventually(stage, f"the Job {name} to go, and its Pods before it", gone, within=within, look=look)
    return (
        f"Job {name}, completions 2: {seen[0]} failed, {seen[1]} succeeded, {retry} came and succeeded; Complete, succeeded 2, failed 1\n"
        f"DELETE, propagationPolicy Foreground: it went, once its Pods had gone"
    )


def endpoint_slice(stage: Stage) -> str:
    """Follow a Service's slices while its Pods become ready, unready, and go."""
    node, account = _place(stage)
    name = unique("service")
    look = leader.journal(stage, COMPONENT)
    space = f"/api/v1/namespaces/{stage.namespace}"
    port = {"port": 80, "targetPort": 8080}
    stage.create(f"{space}/services", {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": {NAME: name}, "ports": [port]}})
    names = []
    for address in ADDRESSES:
        names.append(unique("pod"))
        nodes.pod(stage, names[-1], {**nodes.spec(account, {NAME: node}), "nodeName": node}, labels={NAME: name})
        _play(stage, names[-1], {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], **_ready(ready=True)})

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
    _play(stage, names[1], _ready(ready=False))
    follows(first, unready=(second,))
    _play(stage, names[1], _ready(ready=True))
    follows(first, second)
    require(stage.request("DELETE", f"{space}/pods/{names[0]}"), "the Pod to be deleted")
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


def _worker(stage: Stage) -> dict[str, Any]:
    """The spec of a Pod that ends when the check says so."""
    if stage.inventory.hosts:
        node, account = _place(stage)
        return nodes.spec(account, {NAME: node})
    return pods.spec(stage, pods.container(stage, "main", command=["sh", "-c", _WAITS]))


def _end(stage: Stage, pod: str, *, well: bool) -> None:
    """Let a Pod end."""
    if stage.inventory.hosts:
        _play(stage, pod, {"phase": "Succeeded" if well else "Failed"})
    else:
        pods.ready(stage, pod)
        pods.execute(stage, pod, "sh", "-c", f"echo {0 if well else 1} >/tmp/end")


def _pods(
    stage: Stage, label: str, expected: str, look: Journal | None, enough: Callable[[list[str]], bool], within: float = WITHIN
) -> list[str]:
    """The Pods with a label, once they are as they should be; the oldest first."""
    names: list[str] = []

    def so() -> str | None:
        path = f"/api/v1/namespaces/{stage.namespace}/pods?labelSelector={NAME}%3D{label}"
        names[:] = [pod["metadata"]["name"] for pod in require(stage.api(path), "Pods to be listed").json()["items"]]
        return None if enough(names) else f"it has {', '.join(names) or 'none'}"

    try:
        eventually(stage, expected, so, within=within, look=look)
    except Failed:
        if told := _no_room(stage, label):
            raise Skipped(f"the namespace's quota has no room: {told}") from None
        raise
    return names


def _no_room(stage: Stage, name: str) -> str:
    """What the quota of a namespace that is not ours has against an object's Pods, if it is that."""
    if stage.inventory.hosts:
        return ""
    query = f"fieldSelector=involvedObject.name%3D{name},reason%3DFailedCreate"
    answer = stage.api(f"/api/v1/namespaces/{stage.namespace}/events?{query}")
    told = [str(event["message"]) for event in answer.json()["items"]] if answer.status == 200 else []
    return next((one for one in told if "exceeded quota" in one), "")


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
        proves="a Job makes Pods until enough have succeeded, also after one has failed, counts both, and takes its Pods along",
        run=job,
        permissions=(
            Permission(resource="jobs", group="batch", verbs=("create", "get", "delete")),
            Permission(resource="pods", verbs=("list", "get")),
            Permission(resource="events", verbs=("list",)),
            pods.EXECUTES,
        ),
        first=True,
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
