"""What the controller manager signs with, by a certificate that it is asked for; and what front proxies are believed by."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from hardway.desired import Text
from hardway.inventory import Host
from hardway.pki.declared import Authority
from hardway.pki.pair import Pair, asked, certificates
from hardway.remote.cluster import Cluster
from hardway.rotate.asking import done, got
from hardway.rotate.doors import PROBE
from hardway.waiting import Ask, until

SIGNED = 10.0  # seconds for a request that was approved
PAUSE = 0.2  # seconds between two looks at it
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
    made = done(cluster, "POST", REQUESTS, body, 201)
    try:
        made["status"]["conditions"] = [{"type": "Approved", "status": "True", "reason": "hardway", "message": "a probe"}]
        done(cluster, "PUT", f"{REQUESTS}/{name}/approval", made, 200)
        return _signed(cluster, f"{REQUESTS}/{name}", wanted)
    finally:
        cluster.request("DELETE", f"{REQUESTS}/{name}")


def _signed(cluster: Cluster, path: str, wanted: str) -> str | None:
    """As soon as the controller manager has signed; without a leader it does not."""
    pem = ""

    def unsigned() -> str | None:
        nonlocal pem
        pem = got(cluster, path).get("status", {}).get("certificate", "")
        return None if pem else "it has signed nothing"

    if why := until(unsigned, within=SIGNED, pause=PAUSE):
        return why
    by = Pair.parse(base64.b64decode(pem)).issuer
    return None if by == wanted else f"it signs by {by}"


def told(cluster: Cluster, authority: Authority, *, alone: bool) -> dict[str, Ask]:
    """That extension API servers are told whom to believe, `alone` no one else; and that they are reached through every API server."""
    found: dict[str, Ask] = {
        f"{key} of extension-apiserver-authentication": partial(_is_told, cluster, key, bundle, alone)
        for key, bundle in _bundles(cluster, authority).items()
    }
    if found:
        for service, url in _aggregated(cluster):
            for host in cluster.inventory.on("controller"):
                found[f"{service} through {host.name}"] = partial(_reached, cluster, host, url)
    return found


def tell_no_more(cluster: Cluster, authority: Authority) -> None:
    """Take the retired out of what extension API servers are told: API servers only ever add to it.

    https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controlplane/controller/clusterauthenticationtrust
    """
    if data := _bundles(cluster, authority):
        done(cluster, "PATCH", EXTENSIONS, {"data": data}, 200)


def _bundles(cluster: Cluster, authority: Authority) -> dict[str, str]:
    """What is told of an authority, by its key: what every API server reads."""
    mine = {place.path for place in authority.trusted_in}
    files = {file.path: file.content for file in cluster.credentials.files(cluster.inventory.on("controller")[0])}
    texts = {key: files[path] for key, path in TOLD.items() if path in mine}
    return {key: content.text for key, content in texts.items() if isinstance(content, Text)}


def _is_told(cluster: Cluster, key: str, bundle: str, alone: bool) -> str | None:
    there, wanted = set(certificates(got(cluster, EXTENSIONS)["data"][key])), set(certificates(bundle))
    if there >= wanted and not (alone and there - wanted):
        return None
    return "it is not the bundle of the API servers yet"


def _aggregated(cluster: Cluster) -> Iterator[tuple[str, str]]:
    for one in got(cluster, SERVICES)["items"]:
        if one["spec"].get("service"):
            yield one["metadata"]["name"], f"/apis/{one['spec']['group']}/{one['spec']['version']}"


def _reached(cluster: Cluster, host: Host, path: str) -> str | None:
    status = cluster.api(path, host=host).status
    return None if status == 200 else f"{path} is answered with {status}"
