"""kube-controller-manager: controllers make what the API server's objects ask for, led by one instance."""

from __future__ import annotations

from hardway.components import kube_controller_manager
from hardway.desired import Check, Stage
from hardway.smoke import nodes
from hardway.smoke.checks import leader
from hardway.smoke.removal import NODES
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, eventually, require, said

COMPONENT = kube_controller_manager.COMPONENT
ACCOUNT_WITHIN = 10.0  # seconds
NODE_WITHIN = 15.0  # it looks at every node each five


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
        proves="a node that is not ready gets a taint that keeps Pods away, and loses it when it is ready",
        run=node,
        needs=frozenset({"api", "hosts"}),
        sabotage="the controller managers run with --controllers=*,-node-lifecycle-controller",
    ),
    leader.check("controllers.leader", COMPONENT),
)
