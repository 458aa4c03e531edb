"""Who still needs a generation: what would break if it were trusted no more."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hardway.components import ALL
from hardway.errors import Finding, Mistake
from hardway.pki.declared import Authority
from hardway.pki.pair import certificates
from hardway.pki.trust import Trust
from hardway.remote.cluster import Cluster
from hardway.rotate.asking import TOKENS, got

# Where an object of the cluster says whom the API servers are to believe; for each, how its places are found.
BUNDLES: Mapping[str, str] = {
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations": "webhook",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations": "webhook",
    "/apis/apiregistration.k8s.io/v1/apiservices": "API service",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": "conversion webhook",
}
EMBEDDED = re.compile(r"certificate-authority-data:\s*(\S+)")
CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"


def refuse_if_needed(cluster: Cluster, authority: Authority, trust: Trust) -> None:
    """A Mistake with everybody who would be cut off without the older generations."""
    findings = (*_served(cluster, authority, trust), *_objects(cluster, trust))
    if findings:
        raise Mistake(*findings)


def _served(cluster: Cluster, authority: Authority, trust: Trust) -> Iterator[Finding]:
    """Certificates on the wire."""
    for component in ALL:
        for serving in component.serves:
            if serving.certificate not in authority.certificates:
                continue
            for host in component.hosts(cluster.inventory):
                shown = cluster.shown(host, serving.port, loopback=serving.loopback)
                if shown.issuer != trust.signer.common_name:
                    what = f"{component.name} shows a certificate that {shown.issuer} has signed"
                    yield Finding(where=f"{host.name}:{serving.port}", what=what, next_step="see why with `./inv certs`")


def _objects(cluster: Cluster, trust: Trust) -> Iterator[Finding]:
    """Bundles in the cluster that hold an older generation and not the one that signs."""
    old = {found for one in trust.trusted if one != trust.signer for found in certificates(one.certificate)}
    new = set(certificates(trust.signer.certificate))

    def lacking(pem: str) -> bool:
        there = set(certificates(pem))
        return bool(old & there) and not new <= there

    for path, kind in BUNDLES.items():
        for one in got(cluster, path)["items"]:
            for place, bundle in _bundles(one):
                if lacking(base64.b64decode(bundle).decode(errors="replace")):
                    name = f"{kind} {one['metadata']['name']}{f' ({place})' if place else ''}"
                    step = f"put {trust.signer.common_name} into its caBundle, beside the older or instead of it"
                    yield Finding(where=name, what="believes the older generation only", next_step=step)
    for one in got(cluster, TOKENS)["items"]:
        if lacking(base64.b64decode(one.get("data", {}).get("ca.crt", "")).decode(errors="replace")):
            where = f"secret {one['metadata']['namespace']}/{one['metadata']['name']}"
            yield Finding(
                where=where, what="holds the older generation only", next_step="delete its ca.crt: the controller manager fills it in"
            )
    info = cluster.api(CLUSTER_INFO)
    embedded = EMBEDDED.findall(info.json().get("data", {}).get("kubeconfig", "")) if info.status == 200 else []
    if any(lacking(base64.b64decode(one).decode(errors="replace")) for one in embedded):
        yield Finding(where="configmap kube-public/cluster-info", what="holds the older generation only", next_step="put the new one in")


def _bundles(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name of the place, and the bundle in base64."""
    for hook in one.get("webhooks") or ():
        yield hook["name"], hook.get("clientConfig", {}).get("caBundle") or ""
    spec = one.get("spec") or {}
    yield "", spec.get("caBundle") or ""
    conversion = (spec.get("conversion") or {}).get("webhook") or {}
    yield "", (conversion.get("clientConfig") or {}).get("caBundle") or ""
