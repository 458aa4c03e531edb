"""Node objects of the checks' own and Pods for them: no kubelet runs what is placed there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from hardway.desired import Stage
from hardway.smoke.removal import NAME, NODES
from hardway.smoke.stage import unique

# Also the taint that the API server gives to every new node until the node controller has seen it Ready.
EVERYWHERE: tuple[Mapping[str, str], ...] = ({"operator": "Exists"},)
NOT_READY = "node.kubernetes.io/not-ready"


def node(stage: Stage, name: str, *, memory: str = "1Gi", labels: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """A node of which only the object exists; its own taint keeps everybody else's Pods away."""
    resources = {"cpu": "1", "memory": memory, "pods": "10", "ephemeral-storage": "1Gi"}
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {NAME: name, **(labels or {})}},
        "spec": {"taints": [{"key": NAME, "value": name, "effect": "NoSchedule"}]},
        "status": {"conditions": [condition(ready=True)], "capacity": resources, "allocatable": resources},
    }
    return stage.create(NODES, body)


def condition(*, ready: bool) -> Mapping[str, str]:
    """What a kubelet would say of its node."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    return {"type": "Ready", "status": str(ready), "reason": "Smoke", "message": "no kubelet", **times}


def account(stage: Stage) -> str:
    """An account for Pods: the default one is made, and made again, by what another check looks at."""
    name = unique("pod")
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}, "automountServiceAccountToken": False}
    stage.create(f"/api/v1/namespaces/{stage.namespace}/serviceaccounts", body)
    return name


def spec(
    account: str,
    selector: Mapping[str, str],
    *,
    cpu: str = "10m",
    memory: str = "16Mi",
    tolerations: Iterable[Mapping[str, str]] = EVERYWHERE,
) -> dict[str, Any]:
    """The spec of a Pod that meets `restricted`, and goes at once when it is deleted."""
    quantities = {"cpu": cpu, "memory": memory}
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "nodeSelector": dict(selector),
        "tolerations": list(tolerations),
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
    }


def pod(stage: Stage, name: str, spec: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """A Pod in the run's namespace."""
    metadata = {"name": name, "labels": {**(labels or {})}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"activeDeadlineSeconds": 60, **spec}}
    return stage.create(f"/api/v1/namespaces/{stage.namespace}/pods", body)
