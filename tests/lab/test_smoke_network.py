"""The checks of Services, names and what extends the API turn red when the thing that they prove is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hardway.components import metrics_server
from hardway.components.deployment import available
from hardway.components.pod_network import PROTOCOL
from hardway.inventory import Host
from hardway.pki.pair import throwaway
from hardway.remote.cluster import Cluster
from hardway.smoke import ClusterStage, callers
from hardway.smoke.checks import coredns, extension, kube_proxy
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import assert_green, assert_red, fresh, shell, until

pytestmark = pytest.mark.lab

MINE = ("proxy.clusterip", "proxy.nodeport", "dns.service", "apiserver.webhook", "apiserver.aggregation")
IMPATIENT = 8.0  # seconds, for what will not come about: a sabotage
DROP = """
nft add table ip sabotage
nft add chain ip sabotage out "{ type filter hook postrouting priority 0; }"
nft add rule ip sabotage out ip daddr "$1" drop
"""
DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments"


@pytest.fixture(scope="module")
def stage(cluster: LabCluster) -> Iterator[ClusterStage]:
    """Before and after: all of these are green, and a push would change nothing."""
    with fresh(cluster) as on:
        assert_green(on, *MINE)
        yield on
        assert_green(on, *MINE)
    assert cluster.inv("plan").returncode == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((kube_proxy, "KNOWN"), (coredns, "KNOWN"), (coredns, "BACK"), (extension, "KNOWN"), (extension, "FRESH")):
        monkeypatch.setattr(module, name, IMPATIENT)


def worker(cluster: LabCluster) -> Host:
    return cluster.inventory.on("worker")[-1]


@pytest.mark.usefixtures("impatient")
def test_a_stopped_proxy_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = worker(cluster)

    with stage.stopped(host, "kube-proxy.service"):
        assert_red(stage, proxy__clusterip=f"expected {host.name} to reach 10.")


@pytest.mark.usefixtures("impatient")
def test_a_pod_that_one_node_does_not_reach_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = worker(cluster)
    pod = next(pod for pod in callers.fleet(stage).pods if pod["spec"]["nodeName"] != host.name)

    shell(cluster.live, host, DROP, pod["status"]["podIP"])
    try:
        assert_red(stage, proxy__nodeport="to reach each of ")
    finally:
        cluster.live.run(host, "nft", "delete", "table", "ip", "sabotage")


@pytest.mark.usefixtures("impatient")
def test_too_few_replicas_of_the_dns_are_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    with scaled(cluster.live, "coredns", 1):
        assert_red(stage, dns__survives_replica_loss="expected two replicas of CoreDNS at least; got after 8 s: 1")
        with scaled(cluster.live, "coredns", 0):
            assert_red(stage, dns__service="to reach http://")


@pytest.mark.usefixtures("impatient")
def test_a_controller_without_routes_to_the_pods_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.inventory.on("controller")[-1]

    cluster.live.run(host, "ip", "route", "flush", "proto", str(PROTOCOL))
    try:
        assert_red(stage, apiserver__webhook=f"expected {host.name} to call the webhook; got ")
    finally:
        cluster.live.run(host, "systemctl", "restart", "pod-network.service")


@pytest.mark.usefixtures("impatient")
def test_a_webhook_by_another_authority_is_not_called(stage: ClusterStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(name: str, **words: Any) -> tuple[Any, Any]:
        return throwaway(name, **words)[0], throwaway(name, **words)[1]

    monkeypatch.setattr(extension, "throwaway", other)
    assert_red(stage, apiserver__webhook="certificate signed by unknown authority")


@pytest.mark.usefixtures("impatient")
def test_an_aggregated_api_behind_which_there_is_nobody_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    path = "/api/v1/namespaces/kube-system/services/metrics-server"
    selector = cluster.live.api(path).json()["spec"]["selector"]

    def select(value: dict[str, str]) -> None:
        assert cluster.live.request("PATCH", path, {"spec": {"selector": value}}).status == 200

    def unanswered() -> bool:
        return all(cluster.live.api(extension.METRICS, host=host).status == 503 for host in cluster.inventory.on("controller"))

    select(dict.fromkeys(selector, "nobody"))
    try:
        until(unanswered)  # each API server learns by itself that nobody is there any more
        assert_red(stage, apiserver__aggregation=f"expected {metrics_server.SERVICE} to answer through controller-1")
    finally:
        select(selector)


@contextmanager
def scaled(live: Cluster, deployment: str, replicas: int) -> Iterator[None]:
    """A Deployment with another number of Pods; all as before afterwards."""
    path = f"{DEPLOYMENTS}/{deployment}"
    before = live.api(path).json()["spec"]["replicas"]

    def scale(number: int) -> None:
        assert live.request("PATCH", f"{path}/scale", {"spec": {"replicas": number}}).status == 200
        until(settled(live, deployment, number))

    scale(replicas)
    try:
        yield
    finally:
        scale(before)


def settled(live: Cluster, deployment: str, number: int) -> Callable[[], bool]:
    def so() -> bool:
        status = live.api(f"{DEPLOYMENTS}/{deployment}").json()["status"]
        there = [pod for pod in pods(live) if pod["metadata"]["name"].startswith(f"{deployment}-")]
        return available(live, live.inventory.on("controller")[0], deployment) is None and len(there) == number == status.get("replicas", 0)

    return so


def pods(live: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = live.api("/api/v1/namespaces/kube-system/pods").json()["items"]
    return found
