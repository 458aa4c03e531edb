"""What the cluster carries of CoreDNS: its configuration, its address, and Pods that follow both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from hardway import render
from hardway.components import coredns
from hardway.inventory import Host, Inventory, load

SHIPPED = load(Path(__file__).parents[2] / "inventory.yaml")
WORKER = Host(name="worker-9", address=IPv4Address("10.240.0.29"), roles=frozenset({"worker"}))
INVENTORY = replace(SHIPPED, hosts=(*SHIPPED.hosts, WORKER))
CONTROLLERS = replace(SHIPPED, hosts=SHIPPED.on("controller"))


def objects(inventory: Inventory) -> dict[str, Mapping[str, Any]]:
    return {manifest.name: manifest.object for manifest in render.manifests(coredns.COMPONENT, inventory)}


def corefile(inventory: Inventory) -> str:
    return str(objects(inventory)["configmap/kube-system/coredns"]["data"]["Corefile"])


def template(inventory: Inventory) -> Mapping[str, Any]:
    found: Mapping[str, Any] = objects(inventory)["deployment/kube-system/coredns"]["spec"]["template"]
    return found


def asking(*nameservers: str) -> Inventory:
    networks = replace(INVENTORY.networks, nameservers=tuple(IPv4Address(one) for one in nameservers))
    return replace(INVENTORY, networks=networks)


def test_without_workers_there_is_none() -> None:
    assert objects(CONTROLLERS) == {}


def test_it_has_the_address_that_kubelets_tell_pods() -> None:
    networks = replace(INVENTORY.networks, service_cidr=IPv4Network("10.99.0.0/16"))
    service = objects(replace(INVENTORY, networks=networks))["service/kube-system/kube-dns"]

    assert service["spec"]["clusterIP"] == "10.99.0.10"


def test_everything_selects_the_pods_that_the_deployment_makes() -> None:
    found = objects(INVENTORY)
    labels = template(INVENTORY)["metadata"]["labels"]
    spec = template(INVENTORY)["spec"]

    assert found["deployment/kube-system/coredns"]["spec"]["selector"]["matchLabels"] == labels
    assert found["service/kube-system/kube-dns"]["spec"]["selector"] == labels
    assert found["poddisruptionbudget/kube-system/coredns"]["spec"]["selector"]["matchLabels"] == labels
    assert [one["labelSelector"]["matchLabels"] for one in spec["topologySpreadConstraints"]] == [labels]
    ports = {port["name"] for port in spec["containers"][0]["ports"]}
    assert {port["targetPort"] for port in found["service/kube-system/kube-dns"]["spec"]["ports"]} <= ports


def test_the_labs_hosts_have_no_nameserver_so_nobody_is_asked() -> None:
    assert "forward" not in corefile(INVENTORY)


def test_elsewhere_the_hosts_own_nameservers_are_asked() -> None:
    assert "    forward . /etc/resolv.conf {\n" in corefile(replace(INVENTORY, lab=None))


def test_the_inventory_says_who_is_asked() -> None:
    assert "    forward . 10.0.0.2 10.0.0.3 {\n" in corefile(asking("10.0.0.2", "10.0.0.3"))
    assert "forward" not in corefile(replace(asking(), lab=None))


def test_the_clusters_domain_is_the_inventorys() -> None:
    networks = replace(INVENTORY.networks, domain="k8s.example.org")

    assert "kubernetes k8s.example.org in-addr.arpa" in corefile(replace(INVENTORY, networks=networks))


def test_another_configuration_makes_other_pods_and_the_same_does_not() -> None:
    assert template(INVENTORY) == template(asking())
    assert template(INVENTORY)["metadata"]["annotations"] != template(asking("10.0.0.2"))["metadata"]["annotations"]


def test_it_runs_as_nobody_who_could_change_anything() -> None:
    spec = template(INVENTORY)["spec"]
    (container,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
    }
    assert spec["dnsPolicy"] == "Default"


def test_the_image_is_the_one_that_this_cluster_has() -> None:
    assert template(INVENTORY)["spec"]["containers"][0]["image"] == "hardway.local/coredns:1.15.0"
    assert template(replace(INVENTORY, lab=None))["spec"]["containers"][0]["image"] == "registry.k8s.io/coredns/coredns:v1.15.0"
