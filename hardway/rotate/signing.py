"""What the controller manager signs with, by a certificate that it is asked for; and what front proxies are believed by."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.pki.pair import Pair, asked
from hardway.remote.cluster import Cluster
from hardway.rotate.believed import Ask
from hardway.rotate.doors import PROBE

LOOKS = 50  # at a request that was approved
PAUSE = 0.2  # seconds between them
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client"
EXTENSIONS = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


def signs(cluster: Cluster, wanted: str) -> str | None:
    """None if a request is signed by this generation; else by whom."""
    name = f"hardway-probe-{secrets.token_hex(4)}"
    spec = {
        "request": base64.b64encode(asked(PROBE)).decode(),
        "signerName": SIGNER,
        "usages": ["client auth"],
        "expirationSeconds": 600,
    }
    body = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name}, "spec": spec}
    made = _done(cluster, "POST", REQUESTS, body, 201)
    try:
        made["status"]["conditions"] = [{"type": "Approved", "status": "True", "reason": "hardway", "message": "a probe"}]
        _done(cluster, "PUT", f"{REQUESTS}/{name}/approval", made, 200)
        return _signed(cluster, f"{REQUESTS}/{name}", wanted)
    finally:
        cluster.request("DELETE", f"{REQUESTS}/{name}")


def _signed(cluster: Cluster, path: str, wanted: str) -> str | None:
    """As soon as the controller manager has signed; without a leader it does not."""
    pause = threading.Event()
    for _ in range(LOOKS):
        pem = cluster.api(path).json().get("status", {}).get("certificate")
        if pem:
            by = Pair.parse(base64.b64decode(pem)).issuer
            return None if by == wanted else f"it signs by {by}"
        pause.wait(PAUSE)
    return "it has signed nothing"


def proxies(cluster: Cluster) -> dict[str, Ask]:
    """That extension API servers are told whom to believe, and are reached through every API server."""
    found: dict[str, Ask] = {"extension-apiserver-authentication": partial(_told, cluster)}
    for service, path in _aggregated(cluster):
        for host in cluster.inventory.on("controller"):
            found[f"{service} through {host.name}"] = partial(_reached, cluster, host, path)
    return found


def _told(cluster: Cluster) -> str | None:
    data = cluster.api(EXTENSIONS).json()["data"]
    same = data["requestheader-client-ca-file"] == cluster.credentials.trusts["front-proxy"].bundle
    return None if same else "it is not the bundle of the API servers yet"


def _aggregated(cluster: Cluster) -> Iterator[tuple[str, str]]:
    for one in cluster.api(SERVICES).json()["items"]:
        if one["spec"].get("service"):
            yield one["metadata"]["name"], f"/apis/{one['spec']['group']}/{one['spec']['version']}"


def _reached(cluster: Cluster, host: Host, path: str) -> str | None:
    status = cluster.api(path, host=host).status
    return None if status == 200 else f"{path} is answered with {status}"


def _done(cluster: Cluster, method: str, path: str, body: Any, wanted: int) -> Any:
    answer = cluster.request(method, path, body)
    if answer.status != wanted:
        raise Mistake.at(path, f"the API answers {answer.status}", "run it again")
    return answer.json()
