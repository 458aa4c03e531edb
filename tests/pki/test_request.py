from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.pki.declared import Declarations
from hardway.pki.request import Request, requests


def by_file(declarations: Declarations, inventory: Inventory) -> dict[str, Request]:
    return {request.file: request for request in requests(declarations, inventory)}


def test_the_api_server_answers_to_every_name_that_clients_use(declarations: Declarations, inventory: Inventory) -> None:
    serving = by_file(declarations, inventory)["pki/kubernetes/kube-apiserver@controller-1.pem"]

    assert set(serving.names) == {
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "controller-1",
        "localhost",
        "kubernetes.example.com",
        "api.example.com",
    }
    assert {str(address) for address in serving.addresses} == {"10.32.0.1", "10.240.0.11", "10.240.0.10", "203.0.113.7", "127.0.0.1", "::1"}


def test_an_etcd_member_is_named_as_its_host(declarations: Declarations, inventory: Inventory) -> None:
    peer = by_file(declarations, inventory)["pki/etcd/etcd-peer@controller-2.pem"]

    assert peer.subject == "CN=controller-2"
    assert peer.usages == ("server", "client")
    assert peer.sans == ("DNS:controller-2", "DNS:localhost", "IP:10.240.0.12", "IP:127.0.0.1", "IP:::1")


def test_an_endpoint_without_a_name_adds_its_address_alone(declarations: Declarations, inventory: Inventory) -> None:
    unnamed = replace(inventory, endpoint=replace(inventory.endpoint, name=None))

    serving = by_file(declarations, unnamed)["pki/kubernetes/kube-apiserver@controller-1.pem"]

    assert "kubernetes.example.com" not in serving.names
    assert IPv4Address("10.240.0.10") in serving.addresses


def test_each_subject_is_the_one_that_kubernetes_knows(declarations: Declarations, inventory: Inventory) -> None:
    subjects = {request.certificate: request.subject for request in requests(declarations, inventory) if request.host != "controller-2"}

    assert subjects == {
        "kube-apiserver": "CN=kube-apiserver",
        "kube-apiserver-kubelet-client": "CN=kube-apiserver-kubelet-client",
        "kube-controller-manager": "CN=system:kube-controller-manager",
        "kube-controller-manager-serving": "CN=kube-controller-manager",
        "kube-scheduler": "CN=system:kube-scheduler",
        "kube-scheduler-serving": "CN=kube-scheduler",
        "kubelet": "CN=system:node:worker-1, O=system:nodes",
        "kubelet-serving": "CN=system:node:worker-1, O=system:nodes",
        "kube-proxy": "CN=system:kube-proxy",
        "admin": "CN=kubernetes-admin, O=hardway:administrators",
        "etcd-server": "CN=controller-1",
        "etcd-peer": "CN=controller-1",
        "kube-apiserver-etcd-client": "CN=kube-apiserver-etcd-client",
        "etcdctl": "CN=etcdctl",
        "etcd-operator": "CN=etcd-operator",
        "front-proxy-client": "CN=front-proxy-client",
    }


def test_a_subject_longer_than_a_certificate_can_hold_is_a_mistake(declarations: Declarations, inventory: Inventory) -> None:
    long = replace(inventory, hosts=(Host(name="h" * 65, address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"})),))

    with pytest.raises(Mistake, match=r"certs/etcd\.yaml: certificates\.etcd-server: the subject .* is too long"):
        requests(declarations, long)
