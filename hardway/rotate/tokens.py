"""The ServiceAccount tokens that Pods and Secrets hold: by which key each is signed, and how they come by new ones."""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from hardway.errors import Finding, Mistake
from hardway.remote.cluster import Cluster
from hardway.rotate.asking import TOKENS, got
from hardway.rotate.believed import until_all

Tell = Callable[[str], None]

OLD = "holds a token that the older key has signed"
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


def key(header: str) -> str:
    """The id of the key that has signed a token, by the token's first part; empty if it names none."""
    return str(json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4))).get("kid", ""))


def old(cluster: Cluster) -> Iterator[Finding]:
    """The Pods and Secrets that hold a token of another key than the one that signs now."""
    signing = _signing(cluster)
    for one in sorted(map(_name, _holders(cluster, signing))):
        step = "kubelet brings a new one within an hour; --refresh-tokens restarts it"
        yield Finding(where=f"Pod {one}", what=OLD, next_step=step)
    for one in sorted(map(_name, _secrets(cluster, signing))):
        step = "it never ends; --refresh-tokens has a new one put there, which whoever has copied it has to fetch"
        yield Finding(where=f"Secret {one}", what=OLD, next_step=step)


def unread(cluster: Cluster) -> str | None:
    """None once every client has read the token that its Pod holds; else how long the youngest has been there."""
    youngest = min((one.age for one in held(cluster)), default=REREAD)
    return None if youngest >= REREAD else f"their clients look at them each minute, and the youngest has been there for {youngest} s"


def held(cluster: Cluster) -> list[Held]:
    """Every token in a Pod, by the files that kubelets keep."""
    lines = (line.split() for host in cluster.inventory.on("worker") for line in cluster.run(host, "sh", "-ec", HEADERS).splitlines())
    return [Held(pod=pod, age=int(age), key=key(header)) for pod, age, header in lines]


def _signing(cluster: Cluster) -> str:
    return key(cluster.token(cluster.inventory.on("controller")[0]).partition(".")[0])


def _holders(cluster: Cluster, signing: str) -> list[Mapping[str, Any]]:
    stale = {one.pod for one in held(cluster) if one.key != signing}
    return [one for one in got(cluster, "/api/v1/pods")["items"] if one["metadata"]["uid"] in stale] if stale else []


def _secrets(cluster: Cluster, signing: str) -> list[Mapping[str, Any]]:
    """Secrets with a token for ever: the controller manager fills in one that is missing, and never replaces one."""
    return [one for one in got(cluster, TOKENS)["items"] if _older(one.get("data", {}).get("token", ""), signing)]


def _older(token: str, signing: str) -> bool:
    """Of what somebody may have written by hand."""
    try:
        return key(b64decode(token).decode().partition(".")[0]) != signing
    except (ValueError, AttributeError):
        return False  # no token at all


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['metadata']['namespace']}/{one['metadata']['name']}"


def refresh(cluster: Cluster, tell: Tell) -> None:
    """Restart what holds older tokens, as its owner does it, and empty Secrets; a Mistake with the Pods that nobody would make again."""
    owners: set[tuple[str, str, str]] = set()
    alone = []
    signing = _signing(cluster)
    for pod in _holders(cluster, signing):
        found = _owner(cluster, pod)
        if found:
            owners.add(found)
        else:
            what = f"{OLD}, and nobody would make it again"
            alone.append(Finding(where=f"Pod {_name(pod)}", what=what, next_step="restart it yourself"))
    if alone:
        raise Mistake(*alone)
    for one in _secrets(cluster, signing):
        space, _, name = _name(one).partition("/")
        answer = cluster.request("PATCH", f"/api/v1/namespaces/{space}/secrets/{name}", {"data": {"token": None}})
        if answer.status != 200:
            raise Mistake.at(f"Secret {space}/{name}", f"its token cannot be taken out: {answer.status}", "do it yourself")
        tell(f"Secret {space}/{name}: is given a new token; whoever has copied the older one has to fetch it")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}
    for kind, space, name in sorted(owners):
        answer = cluster.request("PATCH", f"/apis/apps/v1/namespaces/{space}/{KINDS[kind]}/{name}", body)
        if answer.status != 200:
            raise Mistake.at(f"{kind.lower()} {space}/{name}", f"it cannot be restarted: {answer.status}", "restart it yourself")
        tell(f"{kind.lower()} {space}/{name}: is restarted, for new tokens")
    questions = {f"{kind.lower()} {space}/{name}": partial(_rolled, cluster, kind, space, name) for kind, space, name in owners}
    until_all(questions, within=ROLLED, tell=tell)
    until_all({"tokens": lambda: ", ".join(one.where for one in old(cluster)) or None}, within=ROLLED, tell=tell)


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
