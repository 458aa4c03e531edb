"""Whoever still needs the older generation is named before it is trusted no more."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from hardway.desired import Answer, Shown
from hardway.errors import Mistake
from hardway.inventory import Host, load
from hardway.pki import declared, succession
from hardway.pki.issue import ensure
from hardway.pki.trust import Trust
from hardway.remote.cluster import Cluster
from hardway.rotate import asking, needed
from hardway.state import State

ROOT = Path(__file__).parents[2]
INVENTORY = load(ROOT / "inventory.yaml")
DECLARATIONS = declared.load(ROOT / "certs")
KUBERNETES = next(one for one in DECLARATIONS.authorities if one.authority == "kubernetes")
NOW = datetime.now(UTC)


@dataclass
class Answers:
    """A cluster that serves what one generation has signed, and has these objects."""

    issuer: str
    objects: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    info: Mapping[str, Any] | None = None
    status: int = 200
    inventory: object = INVENTORY

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        other = (host.name, port) == ("controller-2", 6443) and self.issuer == "one does not"
        return Shown(serial=port + loopback, issuer="kubernetes-2026a" if other else "kubernetes-2026b", not_after=NOW)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        assert host is None
        if path == needed.CLUSTER_INFO:
            return Answer(status=200 if self.info else 404, body=json.dumps(self.info or {}).encode())
        return Answer(status=self.status, body=json.dumps({"items": self.objects.get(path, [])}).encode())


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    state = State(tmp_path_factory.mktemp("state") / "kit")
    ensure(DECLARATIONS, INVENTORY, state, NOW)
    succession.prepare(KUBERNETES, INVENTORY, state, NOW)
    succession.switch(KUBERNETES, INVENTORY, state, NOW)
    return succession.trust(state, "kubernetes")


def refused(trust: Trust, cluster: Answers) -> list[str]:
    try:
        needed.refuse_if_needed(cast("Cluster", cluster), KUBERNETES, trust)
    except Mistake as mistake:
        return [f"{finding.where}: {finding.what}" for finding in mistake.findings]
    return []


def encoded(*pems: str) -> str:
    return base64.b64encode("".join(pems).encode()).decode()


def test_a_cluster_that_has_followed_needs_it_no_more(trust: Trust) -> None:
    old, new = (one.certificate for one in trust.trusted)
    hooks: list[Mapping[str, Any]] = [
        {"metadata": {"name": "x"}, "webhooks": [{"name": "a", "clientConfig": {"caBundle": encoded(old, new)}}, {"name": "b"}]}
    ]
    path = next(iter(needed.BUNDLES))

    assert refused(trust, Answers("all", {path: hooks})) == []


def test_an_instance_that_serves_the_older_is_named(trust: Trust) -> None:
    assert refused(trust, Answers("one does not")) == [
        "controller-2:6443: kube-apiserver shows a certificate that kubernetes-2026a has signed"
    ]


@pytest.mark.parametrize("number", range(4))
def test_an_object_that_believes_the_older_only_is_named(trust: Trust, number: int) -> None:
    bundle = encoded(trust.trusted[0].certificate)
    path, kind = list(needed.BUNDLES.items())[number]
    kinds: Mapping[str, Mapping[str, Any]] = {
        "webhook": {"webhooks": [{"name": "a.b.c", "clientConfig": {"caBundle": bundle}}]},
        "API service": {"spec": {"caBundle": bundle}},
        "conversion webhook": {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}},
    }
    place = " (a.b.c)" if kind == "webhook" else ""

    assert refused(trust, Answers("all", {path: [{"metadata": {"name": "x"}, **kinds[kind]}]})) == [
        f"{kind} x{place}: believes the older generation only"
    ]


def test_a_token_and_a_kubeconfig_in_the_cluster_are_looked_at_too(trust: Trust) -> None:
    old = trust.trusted[0].certificate
    token = {"metadata": {"name": "t", "namespace": "n"}, "data": {"ca.crt": encoded(old)}}
    config = f"clusters:\n- cluster:\n    certificate-authority-data: {encoded(old)}\n"
    info = {"data": {"kubeconfig": config}}

    assert refused(trust, Answers("all", {asking.TOKENS: [token]}, info)) == [
        "secret n/t: holds the older generation only",
        "configmap kube-public/cluster-info: holds the older generation only",
    ]


def test_what_cannot_be_asked_is_not_taken_for_nothing(trust: Trust) -> None:
    assert refused(trust, Answers("all", status=503)) == [
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations: the API answers 503"
    ]
