"""What the controller manager signs with, by a certificate that it is asked for; and what front proxies are believed by."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from hardway.desired import Text
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.pki.declared import Authority
from hardway.pki.pair import Pair, asked
from hardway.remote.cluster import Cluster
from hardway.rotate.believed import Ask
from hardway.rotate.doors import PROBE

LOOKS = 50  # at a request that was approved
PAUSE = 0.2  # seconds between them
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SIGNER = "kubernetes.io/kube-apiserver-client"
EXTENSIONS = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
# Its keys, and where the API servers have it from.
TOLD = {
    "client-ca-file": PurePosixPath("/etc/kubernetes/kube-apiserver/client-ca.crt"),
    "requestheader-client-ca-file": PurePosixPath("/etc/kubernetes/kube-apiserver/front-proxy-ca.crt"),
}
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


def told(cluster: Cluster, authority: Authority, *, alone: bool) -> dict[str, Ask]:
    """That extension API servers are told whom to believe, `alone` no one else; and that they are reached through every API server."""
    found: dict[str, Ask] = {}
    for key, path in TOLD.items():
        if any(place.path == path for place in authority.trusted_in):
            found[f"{key} of extension-apiserver-authentication"] = partial(_is_told, cluster, key, _bundle(cluster, path), alone)
    if found:
        for service, url in _aggregated(cluster):
            for host in cluster.inventory.on("controller"):
                found[f"{service} through {host.name}"] = partial(_reached, cluster, host, url)
    return found


def tell_no_more(cluster: Cluster, authority: Authority) -> None:
    """Take the retired out of what extension API servers are told: API servers only ever add to it.

    https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controlplane/controller/clusterauthenticationtrust
    """
    data = {key: _bundle(cluster, path) for key, path in TOLD.items() if any(place.path == path for place in authority.trusted_in)}
    if data:
        _done(cluster, "PATCH", EXTENSIONS, {"data": data}, 200)


def _bundle(cluster: Cluster, path: PurePosixPath) -> str:
    """What every API server reads there."""
    host = cluster.inventory.on("controller")[0]
    content = next(file.content for file in cluster.credentials.files(host) if file.path == path)
    return content.text if isinstance(content, Text) else ""


def _is_told(cluster: Cluster, key: str, bundle: str, alone: bool) -> str | None:
    there, wanted = _certificates(cluster.api(EXTENSIONS).json()["data"][key]), _certificates(bundle)
    if there >= wanted and not (alone and there - wanted):
        return None
    return "it is not the bundle of the API servers yet"


def _certificates(bundle: str) -> set[str]:
    return {"".join(one.split()) for one in bundle.split("-----BEGIN CERTIFICATE-----") if one.strip()}


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
