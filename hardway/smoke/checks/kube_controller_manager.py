"""kube-controller-manager: controllers make what the API server's objects ask for, led by one instance."""

from __future__ import annotations

from hardway.components import kube_controller_manager
from hardway.desired import Check, Stage
from hardway.smoke.checks import leader
from hardway.smoke.verdict import Failed, Journal, eventually, require, said

COMPONENT = kube_controller_manager.COMPONENT
ACCOUNT_WITHIN = 10.0  # seconds


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


CHECKS = (
    Check(
        name="controllers.serviceaccount",
        component="kube-controller-manager",
        proves="a new namespace gets its default ServiceAccount, a deleted one comes back, and a token of it is known to every API server",
        run=service_account,
        sabotage="the controller managers run with --controllers=*,-serviceaccount-controller",
    ),
    leader.check("controllers.leader", COMPONENT),
)
