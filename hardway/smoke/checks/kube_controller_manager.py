"""kube-controller-manager: controllers make what the API server's objects ask for, led by one instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardway.components import kube_controller_manager, kubelet
from hardway.desired import Check, Permission, Stage
from hardway.smoke import nodes, pods
from hardway.smoke.checks import leader
from hardway.smoke.removal import NODES
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, Skipped, eventually, require, said

COMPONENT = kube_controller_manager.COMPONENT
ACCOUNT_WITHIN = 10.0  # seconds
NODE_WITHIN = 15.0  # it looks at every node each five
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
RENEWED = kubelet.SILENCE  # a kubelet renews its node's Lease each ten seconds, and the node counts as lost after these
LOST = 90.0  # until it is seen to be
BACK = 60.0
UNREACHABLE = "node.kubernetes.io/unreachable"


def service_account(stage: Stage) -> str:
    """See the account of a new namespace made, made again, and known."""
    space = stage.namespace
    look = leader.journal(stage, COMPONENT)
    account, bundle = f"/api/v1/namespaces/{space}/serviceaccounts/default", f"/api/v1/namespaces/{space}/configmaps/kube-root-ca.crt"

    def there(path: str) -> str | None:
        answer = stage.api(path)
        return None if answer.status == 200 else said(answer)

    eventually(
        stage, f"the new namespace {space} to get a ServiceAccount `default`", lambda: there(account), within=ACCOUNT_WITHIN, look=look
    )
    eventually(stage, f"the new namespace {space} to get kube-root-ca.crt", lambda: there(bundle), within=ACCOUNT_WITHIN, look=look)
    trusted = require(stage.api(bundle), "kube-root-ca.crt to be read").json()["data"].get("ca.crt", "")
    if "BEGIN CERTIFICATE" not in trusted:
        raise Failed("a certificate in kube-root-ca.crt", f"{len(trusted)} characters without one", look)

    first = require(stage.api(account), "the account to be read").json()["metadata"]["uid"]
    require(stage.request("DELETE", account), "the account to be deleted")
    again = ""

    def back() -> str | None:
        nonlocal again
        answer = stage.api(account)
        again = answer.json()["metadata"]["uid"] if answer.status == 200 else ""
        return None if again not in {"", first} else said(answer) if not again else "the old one is still there"

    eventually(stage, "the deleted account to come back", back, within=ACCOUNT_WITHIN, look=look)

    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = require(stage.request("POST", f"{account}/token", request), "a token of the account", status=201).json()["status"]["token"]
    user = f"system:serviceaccount:{space}:default"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    for host in (*stage.inventory.on("controller"), None):
        where = host.name if host else "the endpoint"
        at = Journal(host, "kube-apiserver.service") if host else None
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        answer = require(stage.request("POST", path, review, host=host, token=token), f"the token to be known to {where}", at, status=201)
        if (name := answer.json()["status"]["userInfo"]["username"]) != user:
            raise Failed(f"the token to be {user}'s at {where}", name, at)
    return "\n".join(
        (
            f"GET {account}: 200, uid {first}; after DELETE it came back with uid {again}",
            f"GET {bundle}: 200, {trusted.count('BEGIN CERTIFICATE')} certificate(s)",
            f"POST {account}/token, then SelfSubjectReview with that token at every API server and the endpoint: {user}",
        )
    )


def node(stage: Stage) -> str:
    """See every node's Lease renewed, and its Pod range; on a cluster of ours play a kubelet for one more node."""
    workers = {host.name: host for host in stage.inventory.on("worker")}
    names = tuple(workers) if stage.inventory.hosts else pods.usable(stage)
    evidence = [_renewed(stage, names)] if names else []
    if not stage.inventory.hosts:
        evidence += [_ranges(stage, names), "taints are not looked at on a cluster that is not ours"]
    for name, host in workers.items():
        given = require(stage.api(f"{NODES}/{name}"), f"the node {name} to be read").json()["spec"].get("podCIDR")
        if given != str(host.pod_range):
            raise Failed(f"the node {name} to have the Pod range {host.pod_range}, which it was allotted", str(given))
        evidence.append(f"GET {NODES}/{name}: podCIDR {given}, as allotted")
    return "\n".join([*evidence, *([_played(stage)] if stage.inventory.hosts else [])])


def node_lost(stage: Stage) -> str:
    """Stop the kubelet of a worker, and see what becomes of the node and of its Pod until it runs again."""
    workers = stage.inventory.on("worker")
    if not workers:
        raise Skipped("there is no worker to lose")
    host = workers[-1]
    look = leader.journal(stage, COMPONENT)
    name = pods.make(stage, "stays", pods.container(stage, "main", "netexec"), node=host.name)
    (before,) = pods.ready(stage, name)

    def lost() -> str | None:
        ready, taints = _seen(stage, host.name)
        if (ready, UNREACHABLE in taints) != ("Unknown", True):
            return f"Ready is {ready}, its taints are {', '.join(taints) or 'none'}"
        return None if pods.unready(pods.read(stage, name)) else f"{name} on it still counts as Ready"

    def back() -> str | None:
        ready, taints = _seen(stage, host.name)
        if (ready, taints) != ("True", ()):
            return f"Ready is {ready}, its taints are {', '.join(taints) or 'none'}"
        return pods.unready(pods.read(stage, name))

    with stage.stopped(host, kubelet.COMPONENT.unit):
        eventually(stage, f"{host.name}, whose kubelet is stopped, to count as lost", lost, within=LOST, look=look)
    kubelets = Journal(host, kubelet.COMPONENT.unit)
    eventually(stage, f"{host.name}, whose kubelet runs again, to recover", back, within=BACK, look=kubelets)
    after = pods.read(stage, name)
    first, now = (pod["status"]["containerStatuses"][0]["containerID"] for pod in (before, after))
    if first != now:
        raise Failed(f"the container of {name} to outlive its kubelet", f"{first} was followed by {now}", kubelets)
    return (
        f"systemctl stop {kubelet.COMPONENT.unit} on {host.name}: Ready Unknown, taint {UNREACHABLE}, the Pod {name} not Ready\n"
        f"systemctl start: Ready, no taint, the Pod is Ready with the container that it had"
    )


def _seen(stage: Stage, name: str) -> tuple[str, tuple[str, ...]]:
    """A node's condition Ready, and the keys of its taints."""
    found = require(stage.api(f"{NODES}/{name}"), f"the node {name} to be read").json()
    ready = next((one["status"] for one in found["status"].get("conditions", ()) if one["type"] == "Ready"), "not said")
    return ready, tuple(sorted({taint["key"] for taint in found["spec"].get("taints", ())}))


def _renewed(stage: Stage, names: tuple[str, ...]) -> str:
    """Wait until each node's Lease has been renewed."""

    def times() -> Mapping[str, str]:
        items: list[Any] = require(stage.api(LEASES), "the Leases of nodes to be listed").json()["items"]
        return {item["metadata"]["name"]: item["spec"].get("renewTime", "") for item in items}

    first, now = times(), dict[str, str]()

    def again() -> str | None:
        now.update(times())
        stale = [name for name in names if not now.get(name) or now[name] == first.get(name)]
        return f"{', '.join(f'{name} was last renewed at {now.get(name)}' for name in stale)}" if stale else None

    hosts = {host.name: host for host in stage.inventory.hosts}
    look = Journal(hosts[names[0]], kubelet.COMPONENT.unit) if names[0] in hosts else None
    eventually(stage, f"the Lease of each node to be renewed within {RENEWED:.0f} s", again, within=RENEWED, look=look)
    return f"GET {LEASES}: " + ", ".join(f"{name} renewed at {first.get(name, 'no time')} and {now[name]}" for name in names)


def _ranges(stage: Stage, names: tuple[str, ...]) -> str:
    """A line that says which Pod range each node has: all have one, or none where the Pods' network shares them out itself."""
    items = require(stage.api(NODES), "nodes to be listed").json()["items"]
    given = {item["metadata"]["name"]: item["spec"].get("podCIDR", "") for item in items}
    if not any(given.values()):
        return f"GET {NODES}: no node has a Pod range"
    if without := [name for name in names if not given[name]]:
        others = ", ".join(f"{name} {pod_range}" for name, pod_range in given.items() if pod_range)
        raise Failed("each node to have a Pod range, as others have", f"{', '.join(without)} has none, but {others}")
    return f"GET {NODES}: podCIDR of " + ", ".join(f"{name} {given[name]}" for name in names)


def _played(stage: Stage) -> str:
    """Play a kubelet for a node of our own: say that it is ready, that it is not, that it is again."""
    look = leader.journal(stage, COMPONENT)
    name = unique("node")
    path = f"{NODES}/{name}"
    nodes.node(stage, name)

    def tainted() -> bool:
        taints = require(stage.api(path), "the node to be read").json()["spec"].get("taints", ())
        return any(taint["key"] == nodes.NOT_READY for taint in taints)

    def lose() -> str | None:
        return f"{nodes.NOT_READY} is still there" if tainted() else None

    def get() -> str | None:
        return None if tainted() else f"there is no {nodes.NOT_READY}"

    eventually(stage, f"the node {name}, which is ready, to lose the taint of a new one", lose, within=NODE_WITHIN, look=look)
    for ready, what, so in ((False, "get its taint when it is not ready", get), (True, "lose its taint when it is ready again", lose)):
        body = {"status": {"conditions": [nodes.condition(ready=ready)]}}
        require(stage.request("PATCH", f"{path}/status", body), "the node's condition to be written")
        eventually(stage, f"the node {name} to {what}", so, within=NODE_WITHIN, look=look)
    return f"POST {NODES}: {name}, Ready: {nodes.NOT_READY} went; PATCH Ready=False: it came; PATCH Ready=True: it went"


CHECKS = (
    Check(
        name="controllers.serviceaccount",
        component="kube-controller-manager",
        proves="a new namespace gets its default ServiceAccount, a deleted one comes back, and a token of it is known to every API server",
        run=service_account,
        needs=frozenset({"api", "namespace"}),
        sabotage="the controller managers run with --controllers=*,-serviceaccount-controller",
    ),
    Check(
        name="controllers.node",
        component="kube-controller-manager",
        proves="every node's Lease is renewed and it has its Pod range; one that is not ready gets a taint, and loses it when it is ready",
        run=node,
        permissions=(
            pods.LISTS_NODES,
            Permission(resource="leases", group="coordination.k8s.io", verbs=("list",), namespace="kube-node-lease"),
        ),
        first=True,
        sabotage="the controller managers run with --controllers=*,-node-lifecycle-controller; a kubelet stands still",
    ),
    Check(
        name="controllers.node-loss",
        component="kube-controller-manager",
        proves="a node whose kubelet is silent counts as lost, with a taint that keeps Pods away; it recovers, and its Pods have run on",
        run=node_lost,
        needs=frozenset({"api", "hosts", "disruptive"}),
        sabotage="a kubelet that is to be stopped runs on",
    ),
    leader.check("controllers.leader", COMPONENT),
)
