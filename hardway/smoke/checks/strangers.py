"""Nobody gets in who does not belong: what the API servers and etcd say to strangers, and to nodes that reach beyond themselves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from hardway.components import etcd, kube_apiserver
from hardway.desired import Check, Secret, Stage
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.pki.pair import leaf, root
from hardway.pki.request import Request
from hardway.smoke import nodes
from hardway.smoke.removal import NAME, NODES
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, eventually, expecting, said

ADMINISTRATORS = "hardway:administrators"
HEALTH = ("/readyz", "/livez", "/healthz")
KNOWN_WITHIN = 10.0  # seconds until an API server's authorizer has seen a new Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Somebody who asks, by certificate or token or neither."""

    name: str
    pair: Secret | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubelet:
    """A node of the check's own, with one Pod that mounts one Secret, and the certificate of its kubelet."""

    node: str
    secret: str
    pair: Secret


def refuses_strangers(stage: Stage) -> str:
    """Ask every API server as nobody, as strangers, and as a node."""
    guests = (
        Guest(name="nobody"),
        Guest(name="an administrator by another authority", pair=stranger("kubernetes-admin", "system:masters")),
        Guest(name="an administrator until a while ago", pair=stage.issue("kubernetes", NAME, ADMINISTRATORS, expired=True)),
        Guest(name="an unknown token", token=secrets.token_urlsafe(24)),
    )
    known = Guest(name="an administrator", pair=stage.issue("kubernetes", NAME, ADMINISTRATORS))
    one, other = (_kubelet(stage) for _ in range(2))
    evidence = []
    for host in stage.inventory.on("controller"):
        look = Journal(host, kube_apiserver.COMPONENT.unit)
        with expecting(f"{host.name} to answer everybody", look):
            wrong = [*_strangers(stage, host, guests, known), *_node(stage, host, one, other)]
        if wrong:
            raise Failed(f"the API server on {host.name} to let nobody in who does not belong", "; ".join(wrong), look)
        evidence.append(
            f"GET {kube_apiserver.url(host)}/api: 401 for {', '.join(guest.name for guest in guests)}; 200 for {known.name}; "
            f"{', '.join(HEALTH)} 200 for nobody, /version 401; system:node:{one.node} reads the Secret of its own Pod (200), "
            f"and not the one of {other.node} (403)"
        )
    return "\n".join(evidence)


def node_restriction(stage: Stage) -> str:
    """As one node, change it and another, through every API server."""
    one, other = (_kubelet(stage) for _ in range(2))
    label = {"metadata": {"labels": {f"{NAME}-by": one.node}}}
    reserved = {"metadata": {"labels": {f"node-restriction.kubernetes.io/{NAME}": "x"}}}
    status = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}}
    tries: tuple[tuple[str, str, Mapping[str, Any], int], ...] = (
        ("its own status", f"{NODES}/{one.node}/status", status, 200),
        ("a label of another node", f"{NODES}/{other.node}", label, 403),
        ("the status of another node", f"{NODES}/{other.node}/status", status, 403),
        ("a label of its own that is reserved", f"{NODES}/{one.node}", reserved, 403),
    )
    evidence = []
    for host in stage.inventory.on("controller"):
        look, url = Journal(host, kube_apiserver.COMPONENT.unit), kube_apiserver.url(host)
        for what, path, body, status_wanted in tries:
            with expecting(f"{host.name} to answer a node", look):
                answer = stage.visit(url, path, method="PATCH", body=body, pair=one.pair)
            if answer.status != status_wanted:
                raise Failed(f"{status_wanted} on {host.name} when a node changes {what}", said(answer), look)
        evidence.append(f"system:node:{one.node} at {url}: " + ", ".join(f"PATCH {what} {wanted}" for what, _, _, wanted in tries))
    return "\n".join(evidence)


def etcd_refuses_strangers(stage: Stage) -> str:
    """Knock at both ports of every member: in plain text, without a certificate, with a stranger's, with ours."""
    theirs, ours = stranger("etcd-operator", None), stage.issue("etcd", NAME)
    evidence = []
    for host in stage.inventory.on("controller"):
        look = Journal(host, etcd.COMPONENT.unit)
        for port, path in ((etcd.CLIENT_PORT, "/health"), (etcd.PEER_PORT, "/version")):
            at = f"{host.address}:{port}"
            knocks = (("plain http", f"http://{at}", None), ("no certificate", f"https://{at}", None))
            heard = []
            for who, url, pair in (*knocks, ("a certificate of another authority", f"https://{at}", theirs)):
                with expecting(f"{host.name} to be reached on {port}", look):
                    refused = _refusal(stage, url, path, pair)
                if refused is None:
                    raise Failed(f"etcd on {host.name}:{port} to refuse {who}", "it answers", look)
                heard.append(f"{who}: {refused}")
            with expecting(f"etcd on {host.name}:{port} to accept a certificate of its own authority", look):
                answer = stage.visit(f"https://{at}", path, pair=ours)
            if answer.status != 200:
                raise Failed(f"etcd on {host.name}:{port} to accept a certificate of its own authority", said(answer), look)
            evidence.append(f"GET https://{at}{path}: {'; '.join(heard)}; a certificate of ours: 200")
    return "\n".join(evidence)


def _strangers(stage: Stage, host: Host, guests: tuple[Guest, ...], known: Guest) -> Iterator[str]:
    ask = partial(stage.visit, kube_apiserver.url(host))
    for guest in guests:
        if (status := ask("/api", pair=guest.pair, token=guest.token).status) != 401:
            yield f"/api is answered to {guest.name}: {status}"
    for path in HEALTH:
        if (status := ask(path).status) != 200:
            yield f"{path} is {status} for nobody in particular, who may see it"
    if (status := ask("/version").status) != 401:
        yield f"/version is answered to nobody in particular: {status}"
    if (status := ask("/api", pair=known.pair).status) != 200:
        yield f"/api is {status} for {known.name}, or this check could not tell"


def _node(stage: Stage, host: Host, one: Kubelet, other: Kubelet) -> Iterator[str]:
    """Its own Secret first: once that is read, the authorizer knows of the Pods."""
    url, path = kube_apiserver.url(host), f"/api/v1/namespaces/{stage.namespace}/secrets"

    def reads() -> str | None:
        answer = stage.visit(url, f"{path}/{one.secret}", pair=one.pair)
        return None if answer.status == 200 else said(answer)

    eventually(stage, f"{host.name} to let a node read the Secret of its own Pod", reads, within=KNOWN_WITHIN)
    if (status := stage.visit(url, f"{path}/{other.secret}", pair=one.pair).status) != 403:
        yield f"a node's request for the Secret of another node's Pod is answered with {status}"


def _kubelet(stage: Stage) -> Kubelet:
    node, secret = unique("node"), unique("secret")
    nodes.node(stage, node)
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": {"canary": secrets.token_hex(8)}}
    stage.create(f"/api/v1/namespaces/{stage.namespace}/secrets", body)
    spec = nodes.spec(nodes.account(stage), {NAME: node})
    volumes = [{"name": "secret", "secret": {"secretName": secret}}]
    nodes.pod(stage, unique("pod"), {**spec, "nodeName": node, "volumes": volumes})
    return Kubelet(node=node, secret=secret, pair=stage.issue("kubernetes", f"system:node:{node}", "system:nodes"))


def stranger(common_name: str, organization: str | None) -> Secret:
    """A certificate with the right names by an authority that nobody has heard of."""
    now = datetime.now(UTC)
    authority = root("stranger", keys="ec", days=1, now=now)
    names = Request(authority="stranger", certificate="stranger", common_name=common_name, organization=organization, usages=("client",))
    return Secret(leaf(names, authority, now=now).pem)


def _refusal(stage: Stage, url: str, path: str, pair: Secret | None) -> str | None:
    """How a request is refused; None if it is answered. A port where nobody listens refuses nothing."""
    try:
        answer = stage.visit(url, path, pair=pair)
    except Mistake as mistake:
        if "Connection refused" in str(mistake) or "Timeout" in str(mistake):
            raise
        return mistake.findings[0].what
    return f"{answer.status}" if url.startswith("http:") and answer.status == 400 else None


CHECKS = (
    Check(
        name="apiserver.refuses-strangers",
        component="kube-apiserver",
        proves="nobody gets in who does not belong: 401 without a valid certificate or token, and a node reads no other node's Secrets",
        run=refuses_strangers,
        needs=frozenset({"api", "hosts"}),
        sabotage="one API server authorizes whatever is asked, and knows everybody as anonymous",
    ),
    Check(
        name="apiserver.node-restriction",
        component="kube-apiserver",
        proves="a node may change only itself",
        run=node_restriction,
        needs=frozenset({"api", "hosts"}),
        sabotage="one API server runs without the admission plugin NodeRestriction",
    ),
    Check(
        name="etcd.refuses-strangers",
        component="etcd",
        proves="both ports of etcd refuse plain text, no certificate and a certificate of another authority",
        run=etcd_refuses_strangers,
        needs=frozenset({"hosts"}),
        sabotage="one member does not ask clients for a certificate",
        last=True,  # to etcd.ports it would be a stranger on 2380
    ),
)
