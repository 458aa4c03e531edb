"""kube-scheduler: gives new Pods a node, led by one instance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hardway.components import kube_scheduler
from hardway.desired import Check, Stage
from hardway.smoke.checks import leader
from hardway.smoke.stage import NAME, NODES, unique
from hardway.smoke.verdict import Failed, eventually, require

COMPONENT = kube_scheduler.COMPONENT
SCHEDULED = "Scheduled"
WITHIN = 20.0  # seconds; it takes up what it has failed to place within ten


def assigns(stage: Stage) -> str:
    """Make a node of our own and a Pod that fits it alone."""
    node, pod = unique("node"), unique("pod")
    space = stage.namespace
    look = leader.journal(stage, COMPONENT)
    stage.create(NODES, _node(node))
    # An account of its own: the default one is made, and made again, by what another check looks at.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": pod}, "automountServiceAccountToken": False}
    stage.create(f"/api/v1/namespaces/{space}/serviceaccounts", account)
    path = f"/api/v1/namespaces/{space}/pods"
    made = stage.create(path, _pod(pod, node))
    if "nodeName" in made["spec"]:
        raise Failed("a Pod without a node when it is created", made["spec"]["nodeName"])

    def assigned() -> str | None:
        now = require(stage.api(f"{path}/{pod}"), "the Pod to be read").json()
        if "nodeName" in now["spec"]:
            return None
        conditions = now.get("status", {}).get("conditions", ())
        return next(
            (f"it has no node: {c.get('message', c['reason'])}" for c in conditions if c["type"] == "PodScheduled"),
            "it has no node, and nobody says why",
        )

    eventually(stage, f"the Pod {pod} to get a node", assigned, within=WITHIN, look=look)
    now = require(stage.api(f"{path}/{pod}"), "the Pod to be read").json()
    if now["spec"]["nodeName"] != node:
        raise Failed(f"the Pod on {node}, which alone fits it", f"it is on {now['spec']['nodeName']}", look)
    message = ""

    def told() -> str | None:
        nonlocal message
        query = f"fieldSelector=involvedObject.uid%3D{made['metadata']['uid']},reason%3D{SCHEDULED}"
        events = require(stage.api(f"/api/v1/namespaces/{space}/events?{query}"), "events to be listed").json()["items"]
        by = [
            event for event in events if "default-scheduler" in {event.get("reportingComponent"), event.get("source", {}).get("component")}
        ]
        message = by[0]["message"] if by else ""
        return None if by else f"no {SCHEDULED} event of default-scheduler"

    eventually(stage, f"an event {SCHEDULED} of default-scheduler", told, within=WITHIN, look=look)
    return "\n".join(
        (
            f"POST {NODES}: {node}, with a taint that only our Pod tolerates and a label that it asks for",
            f"POST {path}: {pod}, without a node; then spec.nodeName is {node}",
            f"event {SCHEDULED} of default-scheduler: {message}",
        )
    )


def _node(name: str) -> dict[str, Any]:
    """A node of which only the object exists; its own taint keeps everybody else's Pods away."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Smoke",
        "message": "no kubelet",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    resources = {"cpu": "1", "memory": "1Gi", "pods": "10", "ephemeral-storage": "1Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {NAME: name}},
        "spec": {"taints": [{"key": NAME, "value": name, "effect": "NoSchedule"}]},
        "status": {"conditions": [condition], "capacity": resources, "allocatable": resources},
    }


def _pod(name: str, node: str) -> dict[str, Any]:
    quantities = {"cpu": "10m", "memory": "16Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "serviceAccountName": name,
            "nodeSelector": {NAME: node},
            # Also the taint that the API server gives to every new node until the node controller has seen it Ready.
            "tolerations": [{"operator": "Exists"}],
            "activeDeadlineSeconds": 60,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "none",
                    "image": "hardway.local/never-pulled",
                    "resources": {"requests": quantities, "limits": quantities},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


CHECKS = (
    Check(
        name="scheduler.assigns",
        component="kube-scheduler",
        proves="a new Pod gets a node: the scheduler binds it and says so",
        run=assigns,
        sabotage="every scheduler is stopped",
    ),
    leader.check("scheduler.leader", COMPONENT),
)
