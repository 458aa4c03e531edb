"""The ServiceAccount tokens that Pods hold: by which key each is signed, and how they come by new ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.remote.cluster import Cluster
from hardway.rotate.asking import got
from hardway.rotate.believed import until_all

Tell = Callable[[str], None]

ROLLED = 300.0  # seconds that a workload may take to replace its Pods
RESTARTED = "kubectl.kubernetes.io/restartedAt"  # as `kubectl rollout restart` does it
KINDS = {"Deployment": "deployments", "DaemonSet": "daemonsets", "StatefulSet": "statefulsets"}
REREAD = 61  # seconds after which a client has read a token's file again (client-go, transport/token_source.go)
# Of each token whose it is, how long it has lain there, and its header, which names the key and no secret. By `..data`, which is root's:
# the others are links of the Pod's user in a directory where the kernel lets nobody follow those (fs.protected_symlinks).
HEADERS = """
for place in /var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/; do
  [ -h "${place}token" ] || continue
  pod=${place#/var/lib/kubelet/pods/} file=${place}..data/token
  echo "${pod%%/*} $(($(date +%s) - $(stat -L -c %Z -- "$file"))) $(cut -d . -f 1 <"$file")"
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A token in a Pod."""

    pod: str  # its uid
    age: int  # seconds that it has been there
    key: str  # the id of the key that has signed it


def issued(cluster: Cluster, host: Host) -> str:
    """A token that one API server has just signed, good for ten minutes and nothing."""
    path = "/api/v1/namespaces/kube-system/serviceaccounts/default/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    answer = cluster.request("POST", path, body, host=host)
    if answer.status != 201:
        raise Mistake.at(host.name, f"a token is refused: {answer.status}", "run it again")
    return str(answer.json()["status"]["token"])


def key(header: str) -> str:
    """The id of the key that has signed a token, by the token's first part."""
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


def old(cluster: Cluster) -> tuple[str, ...]:
    """The Pods that hold a token of another key than the one that signs now."""
    return tuple(sorted(f"Pod {one['metadata']['namespace']}/{one['metadata']['name']}" for one in _holders(cluster)))


def unread(cluster: Cluster) -> str | None:
    """None once every client has read the token that its Pod holds; else how long the youngest has been there."""
    youngest = min((one.age for one in held(cluster)), default=REREAD)
    return None if youngest >= REREAD else f"their clients look at them each minute, and the youngest has been there for {youngest} s"


def held(cluster: Cluster) -> list[Held]:
    """Every token in a Pod, by the files that kubelets keep."""
    lines = (line.split() for host in cluster.inventory.on("worker") for line in cluster.run(host, "sh", "-ec", HEADERS).splitlines())
    return [Held(pod=pod, age=int(age), key=key(header)) for pod, age, header in lines]


def _holders(cluster: Cluster) -> list[Mapping[str, Any]]:
    signing = key(issued(cluster, cluster.inventory.on("controller")[0]).partition(".")[0])
    stale = {one.pod for one in held(cluster) if one.key != signing}
    return [one for one in got(cluster, "/api/v1/pods")["items"] if one["metadata"]["uid"] in stale] if stale else []


def refresh(cluster: Cluster, tell: Tell) -> None:
    """Restart what holds older tokens, as its owner does it; a Mistake with the Pods that nobody would make again."""
    owners: set[tuple[str, str, str]] = set()
    alone = []
    for pod in _holders(cluster):
        found = _owner(cluster, pod)
        if found:
            owners.add(found)
        else:
            alone.append(f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']}")
    if alone:
        raise Mistake(
            *(
                Finding(where=one, what="holds a token of the older key, and nobody would make it again", next_step="restart it yourself")
                for one in alone
            )
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}
    for kind, space, name in sorted(owners):
        answer = cluster.request("PATCH", f"/apis/apps/v1/namespaces/{space}/{KINDS[kind]}/{name}", body)
        if answer.status != 200:
            raise Mistake.at(f"{kind.lower()} {space}/{name}", f"it cannot be restarted: {answer.status}", "restart it yourself")
        tell(f"{kind.lower()} {space}/{name}: is restarted, for new tokens")
    questions = {f"{kind.lower()} {space}/{name}": partial(_rolled, cluster, kind, space, name) for kind, space, name in owners}
    until_all(questions, within=ROLLED, tell=tell)
    until_all({"tokens": lambda: ", ".join(old(cluster)) or None}, within=ROLLED, tell=tell)


def _owner(cluster: Cluster, one: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Kind, namespace and name of what makes a Pod again from a template that can be changed."""
    space = one["metadata"]["namespace"]
    for owner in one["metadata"].get("ownerReferences", ()):
        if owner["kind"] in KINDS:
            return owner["kind"], space, owner["name"]
        if owner["kind"] == "ReplicaSet":
            return _owner(cluster, got(cluster, f"/apis/apps/v1/namespaces/{space}/replicasets/{owner['name']}"))
    return None


def _rolled(cluster: Cluster, kind: str, space: str, name: str) -> str | None:
    found = got(cluster, f"/apis/apps/v1/namespaces/{space}/{KINDS[kind]}/{name}")
    status = found["status"]
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return "its change was not seen yet"
    wanted = status.get("desiredNumberScheduled") if kind == "DaemonSet" else found["spec"]["replicas"]
    new = status.get("updatedNumberScheduled" if kind == "DaemonSet" else "updatedReplicas", 0)
    ready = status.get("numberAvailable" if kind == "DaemonSet" else "availableReplicas", 0)
    there = status.get("currentNumberScheduled" if kind == "DaemonSet" else "replicas", 0)
    return None if new == ready == there == wanted else f"{new} of {wanted} are new, {ready} are available"
