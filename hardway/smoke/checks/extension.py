"""What extends the API: an admission webhook in a Pod is called by every API server, and an aggregated API answers through every one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from hardway.components import kube_apiserver, metrics_server
from hardway.desired import Check, Permission, Stage
from hardway.inventory import Host
from hardway.pki.pair import Pair, throwaway
from hardway.smoke import pods
from hardway.smoke.removal import NAME, WEBHOOKS
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, Skipped, eventually, require, said

PORT = 8443
KNOWN = 30.0  # seconds until an API server calls a webhook that was just registered
FRESH = 90.0  # seconds until a metrics-server that has just started has seen every kubelet twice
METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


def webhook(stage: Stage) -> str:
    """Register a webhook for objects of the check alone, and let every API server meet one."""
    name = unique("webhook")
    authority, pair = throwaway(f"{name}.{stage.namespace}.svc", now=datetime.now(UTC), lifetime=timedelta(hours=1))
    _serve(stage, name, pair)
    _register(stage, name, authority)
    evidence = []
    for host in stage.inventory.on("controller"):
        look = Journal(host, kube_apiserver.COMPONENT.unit)
        eventually(stage, f"{host.name} to call the webhook", partial(_uncalled, stage, host, name), within=KNOWN, look=look)
        evidence.append(f"POST of a ConfigMap through {host.name}, as a dry run: what comes back is what the webhook made of it")
    other = _post(stage, stage.inventory.on("controller")[0], unique("other"), {})
    if _mutated(other):
        raise Failed("an object without the webhook's label to be left alone", str(other.get("data")))
    registered = f"{WEBHOOKS}/{name}: https://{name}.{stage.namespace}.svc in a Pod"
    return "\n".join((registered, *evidence, "a ConfigMap without its label: as it was"))


def aggregation(stage: Stage) -> str:
    """Ask every API server for an API that it has only by passing the question on."""
    path = f"{SERVICES}/{metrics_server.SERVICE}"
    answer = stage.api(path)
    if answer.status == 404 and not metrics_server.COMPONENT.wanted(stage.inventory):
        raise Skipped(f"there is no {metrics_server.SERVICE}: no metrics-server is installed")
    require(answer, f"the APIService {metrics_server.SERVICE}")
    hosts: tuple[Host | None, ...] = stage.inventory.on("controller") or (None,)
    return "\n".join(_aggregated(stage, host, path) for host in hosts)


def _aggregated(stage: Stage, host: Host | None, path: str) -> str:
    """A line that says which nodes an aggregated API knows, asked through one API server."""
    found: dict[str, Mapping[str, str]] = {}
    missing = {worker.name for worker in stage.inventory.on("worker")}

    def wrong() -> str | None:
        conditions = {one["type"]: one for one in require(stage.api(path, host=host), "the APIService").json()["status"]["conditions"]}
        if (available := conditions["Available"])["status"] != "True":
            return f"it is not Available: {available.get('message', '')}"
        answer = stage.api(METRICS, host=host)
        if answer.status != 200:
            return said(answer)
        found.update({item["metadata"]["name"]: item["usage"] for item in answer.json()["items"]})
        unknown = ", ".join(sorted(missing - set(found))) or ("" if found else "any node")
        return f"it knows nothing of {unknown}" if unknown else None

    look = Journal(host, kube_apiserver.COMPONENT.unit) if host else None
    through = host.name if host else stage.inventory.server
    eventually(stage, f"{metrics_server.SERVICE} to answer through {through}", wrong, within=FRESH, look=look)
    usage = ", ".join(f"{name} cpu {found[name]['cpu']} memory {found[name]['memory']}" for name in sorted(found))
    return f"{metrics_server.SERVICE} is Available; GET {METRICS} through {through}: {usage}"


def _serve(stage: Stage, name: str, pair: Pair) -> None:
    """A Pod that answers as a webhook, behind a Service."""
    at = f"/api/v1/namespaces/{stage.namespace}"
    pem = pair.pem.decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"pair.pem": pem}}
    stage.create(f"{at}/secrets", secret)
    ready = {"httpGet": {"path": "/readyz", "port": PORT, "scheme": "HTTPS"}, "periodSeconds": 1}
    files = (f"--tls-cert-file=/{NAME}/pair.pem", f"--tls-private-key-file=/{NAME}/pair.pem")
    mounts = [{"name": "pair", "mountPath": f"/{NAME}", "readOnly": True}]
    container = pods.container(stage, "webhook", "webhook", *files, f"--port={PORT}", readinessProbe=ready, volumeMounts=mounts)
    pod = pods.make(stage, "webhook", container, labels={NAME: name}, volumes=[{"name": "pair", "secret": {"secretName": name}}])
    spec = {"selector": {NAME: name}, "ports": [{"port": 443, "targetPort": PORT}]}
    stage.create(f"{at}/services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    pods.ready(stage, pod)


def _register(stage: Stage, name: str, authority: Pair) -> None:
    """Have the API servers call it: for ConfigMaps that carry its label, in the run's namespace."""
    bundle = base64.b64encode(authority.certificate_pem).decode()
    service = {"namespace": stage.namespace, "name": name, "path": "/mutating-configmaps"}
    hook = {
        "name": f"{name}.example.com",
        "clientConfig": {"service": service, "caBundle": bundle},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"], "scope": "Namespaced"}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
        "objectSelector": {"matchLabels": {NAME: name}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 5,
        "admissionReviewVersions": ["v1"],
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    stage.create(WEBHOOKS, {**kind, "metadata": {"name": name}, "webhooks": [hook]})


def _uncalled(stage: Stage, host: Host, name: str) -> str | None:
    """None if an API server lets the webhook change an object."""
    answer = _post(stage, host, unique("called"), {NAME: name})
    return None if _mutated(answer) else answer.get("message") or "the object is as it was: the webhook was not called"


def _post(stage: Stage, host: Host, name: str, labels: Mapping[str, str]) -> Mapping[str, Any]:
    """What one API server makes of a ConfigMap which asks to be changed; it is kept nowhere."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"mutation-start": "yes"}}
    path = f"/api/v1/namespaces/{stage.namespace}/configmaps?dryRun=All"
    document: Mapping[str, Any] = stage.request("POST", path, body, host=host).json()
    return document


def _mutated(document: Mapping[str, Any]) -> bool:
    """Whether agnhost's webhook has been at it: https://github.com/kubernetes/kubernetes/tree/master/test/images/agnhost/webhook."""
    return bool(document.get("data", {}).get("mutation-stage-1") == "yes")


CHECKS = (
    Check(
        name="apiserver.webhook",
        component=kube_apiserver.COMPONENT.name,
        proves="every API server calls an admission webhook that runs in a Pod, for what it is registered for and nothing else",
        run=webhook,
        needs=frozenset({"api", "hosts"}),
        sabotage="one controller has no routes to the Pods",
    ),
    Check(
        name="apiserver.aggregation",
        component=kube_apiserver.COMPONENT.name,
        proves="an aggregated API, metrics.k8s.io, is Available and answers through every API server",
        run=aggregation,
        permissions=(
            Permission(resource="apiservices", group="apiregistration.k8s.io", verbs=("get",), cluster=True, name=metrics_server.SERVICE),
            Permission(resource="nodes", group="metrics.k8s.io", verbs=("list",), cluster=True),
        ),
        sabotage="metrics-server is scaled to nothing",
    ),
)
