"""What the cluster carries of metrics-server, and when it counts as serving."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from hardway import render
from hardway.components import metrics_server
from hardway.desired import Answer, Live
from hardway.inventory import Host, Inventory, load

SHIPPED = load(Path(__file__).parents[2] / "inventory.yaml")
WORKER = Host(name="worker-9", address=IPv4Address("10.240.0.29"), roles=frozenset({"worker"}))
INVENTORY = replace(SHIPPED, hosts=(*SHIPPED.hosts, WORKER))
HOST = INVENTORY.on("controller")[0]
SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"
AVAILABLE = {"type": "Available", "status": "True"}


@dataclass
class Api:
    """An API server, and what it says of the APIService."""

    conditions: tuple[Mapping[str, Any], ...] = ()
    there: int = 200
    passed_on: int = 200
    inventory: Inventory = INVENTORY
    asked: list[str] = field(default_factory=list)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        assert host == HOST
        self.asked.append(path)
        if path == METRICS:
            return Answer(status=self.passed_on, body=b"{}")
        assert path == SERVICE
        return Answer(status=self.there, body=json.dumps({"status": {"conditions": self.conditions}}).encode())


def asked(api: Api) -> str | None:
    return metrics_server.serves(cast("Live", api), HOST)


def test_it_serves_when_its_api_is_available_and_answers() -> None:
    assert asked(Api((AVAILABLE,))) is None


@pytest.mark.parametrize(
    ("api", "why"),
    [
        (Api(there=404), "answers 404 to a question for APIService"),
        (Api(), "Available is Unknown: no word of it yet"),
        (Api(({"type": "Available", "status": "False", "message": "no endpoints"},)), "Available is False: no endpoints"),
        (Api((AVAILABLE,), passed_on=503), "it answers 503"),
    ],
)
def test_why_it_does_not_serve_is_told(api: Api, why: str) -> None:
    assert why in (asked(api) or "")


def test_nobody_waits_for_it_before_the_operators_network_is_there() -> None:
    api = Api(inventory=replace(INVENTORY, network="none"))

    assert asked(api) is None
    assert api.asked == []


def objects(inventory: Inventory) -> dict[str, Mapping[str, Any]]:
    return {manifest.name: manifest.object for manifest in render.manifests(metrics_server.COMPONENT, inventory)}


def test_without_workers_there_is_none() -> None:
    assert objects(replace(SHIPPED, hosts=SHIPPED.on("controller"))) == {}


def test_it_checks_the_certificates_of_kubelets() -> None:
    (container,) = objects(INVENTORY)["deployment/kube-system/metrics-server"]["spec"]["template"]["spec"]["containers"]

    assert "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" in container["args"]
    assert not [argument for argument in container["args"] if "insecure" in argument]


def test_the_api_leads_to_the_service_and_that_to_the_pods() -> None:
    found = objects(INVENTORY)
    service = found["service/kube-system/metrics-server"]
    deployment = found["deployment/kube-system/metrics-server"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    to = found["apiservice/v1beta1.metrics.k8s.io"]["spec"]["service"]

    assert to == {"name": "metrics-server", "namespace": "kube-system", "port": service["spec"]["ports"][0]["port"]}
    assert service["spec"]["selector"] == deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert f"--secure-port={container['ports'][0]['containerPort']}" in container["args"]


def test_it_runs_as_nobody_who_could_change_anything() -> None:
    spec = objects(INVENTORY)["deployment/kube-system/metrics-server"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
