"""What the kit puts into the cluster works there: names resolve, `kubectl top` has figures, drift is seen and repaired."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hardway.components import deployment, images
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import until

pytestmark = pytest.mark.lab

DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments"


def changed(cluster: LabCluster) -> list[str]:
    """What a push would change in the cluster."""
    done = cluster.inv("plan", "--json", "-")
    return [f"{one['action']} {one['object']}" for one in json.loads(done.stdout)["objects"]]


def nslookup(cluster: LabCluster, *names: str) -> str:
    """What a Pod learns of names."""
    image = images.reference(cluster.inventory, "agnhost")
    words = ("run", "asks-for-names", f"--image={image}", "--restart=Never", "--attach", "--rm", "--quiet", "--command")
    script = 'for name; do nslookup "$name" || true; done'
    return cluster.inv("kubectl", "--", *words, "--", "sh", "-c", script, "sh", *names).stdout


def kubectl(cluster: LabCluster, *words: str) -> None:
    assert cluster.inv("kubectl", "--", "--namespace=kube-system", *words).returncode == 0


def pods(cluster: LabCluster, name: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = cluster.live.api(f"/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3D{name}").json()["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def test_a_pod_learns_the_addresses_of_services(cluster: LabCluster) -> None:
    domain = cluster.inventory.networks.domain
    said = nslookup(cluster, f"kubernetes.default.svc.{domain}", f"nobody.default.svc.{domain}")

    assert f"Address: {cluster.inventory.service_address}\n" in said
    assert f"can't find nobody.default.svc.{domain}: NXDOMAIN" in said


def test_its_replicas_are_on_different_nodes(cluster: LabCluster) -> None:
    nodes = [pod["spec"]["nodeName"] for pod in pods(cluster, "kube-dns")]

    assert len(nodes) == 2
    assert len(set(nodes)) == min(2, len(cluster.inventory.on("worker")))


def test_nodes_and_pods_have_figures(cluster: LabCluster) -> None:
    """The kubelets' certificates are verified for it, and every API server reaches the Pod."""
    for host in cluster.inventory.on("controller"):
        assert cluster.live.api("/apis/metrics.k8s.io/v1beta1/nodes", host=host).status == 200
    workers = {host.name for host in cluster.inventory.on("worker")}
    until(lambda: {line.split()[0] for line in cluster.inv("kubectl", "--", "top", "nodes", "--no-headers").stdout.splitlines()} == workers)
    until(lambda: "coredns-" in cluster.inv("kubectl", "--", "top", "pods", "--namespace=kube-system", "--no-headers").stdout)


def test_drift_is_seen_and_repaired(cluster: LabCluster) -> None:
    assert cluster.live.request("DELETE", f"{DEPLOYMENTS}/metrics-server").status == 200
    kubectl(cluster, "scale", "deployment/coredns", "--replicas=0")
    kubectl(cluster, "patch", "configmap/coredns", f"--patch={json.dumps({'data': {'Corefile': '.:53 {}'}})}")
    configmap, scaled, missing = "configmap/kube-system/coredns", "deployment/kube-system/coredns", "deployment/kube-system/metrics-server"

    assert changed(cluster) == [f"apply {configmap}", f"apply {scaled}", f"create {missing}"]
    assert cluster.inv("push").returncode == 0
    assert changed(cluster) == []
    assert {len(pods(cluster, "kube-dns")), len(pods(cluster, "metrics-server"))} == {2, 1}


def test_a_pod_that_does_not_start_is_told_by_the_gate(cluster: LabCluster) -> None:
    containers = [{"name": "coredns", "image": "hardway.local/nothing:0"}]
    kubectl(cluster, "patch", "deployment/coredns", f"--patch={json.dumps({'spec': {'template': {'spec': {'containers': containers}}}})}")
    try:
        until(lambda: "Image" in (deployment.available(cluster.live, cluster.controller(), "coredns") or ""))
    finally:
        assert cluster.inv("push").returncode == 0
