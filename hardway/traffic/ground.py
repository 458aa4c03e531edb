"""Where traffic acts: one namespace that says when it expires, what is asked in it, and its removal."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hardway.desired import EXPIRES, MANAGED_BY
from hardway.errors import Mistake
from hardway.pki.pair import throwaway
from hardway.traffic.client import Client, Reply, patiently, told
from hardway.traffic.inside import NAME, PORT, WEBHOOK_PORT, pods
from hardway.traffic.settings import Settings
from hardway.traffic.wire.connection import Lost

NAMESPACES = "/api/v1/namespaces"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"
LABEL = {MANAGED_BY: NAME}
WITHIN = 120.0  # seconds until what is asked is there
GONE = 60.0  # seconds until it is gone again
# Seconds for which a container has to have run, or a kubelet that starts takes it for a new one: not Ready before its next probe.
# https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/prober/prober_manager.go: kubeletRestartGracePeriod
NEW = 10.0
AGAIN = 20.0  # seconds for which a server may fail
FAILS = frozenset({500, 503, 504})
SLACK = 600  # seconds that a run may take beside its load

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What there is to be asked."""

    space: str  # path of the namespace
    left_out: Mapping[str, str]  # kinds that this cluster does not have, and why

    def path(self, plural: str, name: str = "") -> str:
        return f"{self.space}/{plural}{f'/{name}' if name else ''}"


def configmap(name: str, count: int, **labels: str) -> dict[str, Any]:
    """A small object that differs each time."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"count": str(count)}}


def make(client: Client, settings: Settings, watched: tuple[str, ...], tell: Tell) -> Ground:
    """Make all that is asked, and wait until it answers. What was made goes again if that fails."""
    expires = str(int(time.time()) + settings.longest + SLACK)
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": f"{NAME}-{secrets.token_hex(4)}", "labels": {**LABEL, EXPIRES: expires}},
    }
    made = _post(client, NAMESPACES, body)
    space = f"{NAMESPACES}/{made['metadata']['name']}"
    try:
        for name in watched:
            _post(client, f"{space}/configmaps", configmap(name, 0, **{NAME: "watched"}))
        left_out = _extend(client, settings, made, space, tell)
        return Ground(space=space, left_out=left_out)
    except BaseException:
        remove(client, space, tell)
        raise


def remove(client: Client, space: str, tell: Tell) -> None:
    """Delete the namespace with all that is in it, and see it gone."""
    # Its Pods are told at once: when the controllers come to look, they have ended.
    name = space.rpartition("/")[2]

    def undeleted() -> str | None:
        statuses = [client.ask("DELETE", path).status for path in (f"{space}/pods", space)]
        return None if statuses[-1] in {200, 202, 404, 409} else f"status {statuses[-1]}"

    def going() -> str | None:
        return None if client.ask("GET", space).status == 404 else "it is still going"

    try:
        patiently(f"namespace/{name} to be deleted", undeleted, GONE)
        patiently(f"namespace/{name} to go", going, GONE)
    except Mistake as mistake:
        tell(f"{mistake}; `./inv smoke --cleanup` removes it once its time is over")


def _extend(client: Client, settings: Settings, namespace: Mapping[str, Any], space: str, tell: Tell) -> dict[str, str]:
    """What goes beyond the API server itself: Pods, a webhook, an aggregated API."""
    left_out = {}
    try:
        metrics = client.ask("GET", METRICS).status
    except Lost as lost:
        raise Mistake.at("traffic", f"the API does not answer: {lost}") from None
    if metrics != 200:
        left_out["metrics"] = f"metrics.k8s.io answers {metrics}"
    in_pods = ("exec", "logs", "service", "service_account", "webhook")
    if not settings.image:
        return {**left_out, **dict.fromkeys(in_pods, "no node of this cluster runs Pods")}
    try:
        _populate(client, settings, space)
        ready = time.monotonic()
        _register(client, namespace, space)
        patiently("its Pods to have run for a while", lambda: None if time.monotonic() - ready > NEW else "they are new", WITHIN)
    except Mistake as mistake:
        if settings.must:
            raise
        tell(f"left out: {', '.join(in_pods)}: {mistake}")
        return {**left_out, **dict.fromkeys(in_pods, str(mistake))}
    return left_out


def _populate(client: Client, settings: Settings, space: str) -> None:
    """The Pods and their Services, Ready and answering."""
    patiently("its ServiceAccount", lambda: None if client.ask("GET", f"{space}/serviceaccounts/default").status == 200 else "none", WITHIN)
    addresses = {}
    for name, port in (("server", PORT), ("webhook", WEBHOOK_PORT)):
        spec = {"selector": {NAME: name}, "ports": [{"port": 443 if name == "webhook" else 80, "targetPort": port}]}
        made = _post(client, f"{space}/services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
        addresses[name] = made["spec"]["clusterIP"]
    authority, pair = throwaway(f"webhook.{space.rpartition('/')[2]}.svc", now=datetime.now(UTC), lifetime=timedelta(hours=12))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "webhook"}, "stringData": {"pair.pem": pair.pem.decode()}}
    _post(client, f"{space}/secrets", {**secret, "data": {"authority": base64.b64encode(authority.certificate_pem).decode()}})
    wanted = pods(settings, addresses["server"])
    for name, pod in wanted.items():
        metadata = {"name": name, **pod["metadata"]}
        _post(client, f"{space}/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]})
    for name in wanted:
        patiently(f"the Pod {name} to be Ready", lambda name=name: _unready(client, f"{space}/pods/{name}"), WITHIN)  # type: ignore[misc]
    for name, word in (("caller", "begun"), ("client", "calling")):
        path = f"{space}/pods/{name}/log"
        patiently(f"the Pod {name} to begin", lambda path=path, word=word: _unsaid(client, path, word), WITHIN)  # type: ignore[misc]


def _register(client: Client, namespace: Mapping[str, Any], space: str) -> None:
    """Have the webhook called, for ConfigMaps of the namespace that carry its label; it goes with the namespace, which owns it."""
    name = namespace["metadata"]["name"]
    bundle = client.ask("GET", f"{space}/secrets/webhook").json()["data"]["authority"]
    owner = {"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": namespace["metadata"]["uid"]}
    hook = {
        "name": f"{name}.example.com",
        "clientConfig": {"service": {"namespace": name, "name": "webhook", "path": "/mutating-configmaps"}, "caBundle": bundle},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"], "scope": "Namespaced"}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "objectSelector": {"matchLabels": {NAME: "webhook"}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "admissionReviewVersions": ["v1"],
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    labels = {key: value for key, value in namespace["metadata"]["labels"].items() if key in {MANAGED_BY, EXPIRES}}
    _post(client, HOOKS, {**kind, "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}, "webhooks": [hook]})
    rounds = 0

    def uncalled() -> str | None:
        nonlocal rounds
        why = unmutated(client.ask("POST", f"{space}/configmaps?dryRun=All", hooked()))
        rounds = 0 if why else rounds + 1
        # Every API server has to know it, and each connection leads to one: over new ones, several times.
        client.close()
        return why or (None if rounds >= 9 else "not by every API server yet")

    patiently("the webhook to be called", uncalled, WITHIN)


def hooked() -> dict[str, Any]:
    """A ConfigMap which asks the webhook to change it: https://github.com/kubernetes/kubernetes/tree/master/test/images/agnhost/webhook."""
    body = configmap("hooked", 0, **{NAME: "webhook"})
    return {**body, "data": {"mutation-start": "yes"}}


def unmutated(reply: Reply) -> str | None:
    """None if the webhook has been at what came back."""
    if reply.status == 201 and reply.json().get("data", {}).get("mutation-stage-1") == "yes":
        return None
    return f"the webhook has not changed it: {told(reply)}"


def _post(client: Client, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make an object of a name that nobody else uses.

    An API server that fails at it is asked again: it may still have a dead connection to a member of etcd that was away, until it uses it.
    """
    made: Mapping[str, Any] = {}

    def unmade() -> str | None:
        nonlocal made
        try:
            reply = client.ask("POST", path, body)
            if reply.status == 409:  # by the one before, whatever it was told
                reply = client.ask("GET", f"{path}/{body['metadata']['name']}")
        except Lost as lost:
            raise Mistake.at(f"POST {path}", f"no answer: {lost}") from None
        if reply.status in FAILS:
            return told(reply)
        if reply.status not in {200, 201}:
            raise Mistake.at(f"POST {path}", told(reply))
        made = reply.json()
        return None

    patiently(f"POST {path}", unmade, AGAIN)
    return made


def _unready(client: Client, path: str) -> str | None:
    reply = client.ask("GET", path)
    if reply.status != 200:
        return f"status {reply.status}"
    status = reply.json().get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    why = conditions.get("PodScheduled", {}).get("message") or conditions.get("Ready", {}).get("message", "")
    return f"{status.get('phase')} {why}".strip()


def _unsaid(client: Client, path: str, word: str) -> str | None:
    reply = client.ask("GET", path)
    return None if reply.status == 200 and word in reply.body.decode(errors="replace") else f"its log says nothing yet: {reply.status}"
