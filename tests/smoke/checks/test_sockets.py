"""What `ss` prints is understood, and who does not belong on etcd's ports is seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from hardway.desired import Stage
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.smoke.checks.sockets import only_client, ports
from hardway.smoke.verdict import Failed

HOSTS = tuple(Host(name=f"controller-{i}", address=IPv4Address(f"10.0.0.{i}"), roles=frozenset({"controller"})) for i in (1, 2))
INVENTORY = Inventory(
    cluster="test",
    hosts=HOSTS,
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="none", address=HOSTS[0].address),
)


CLIENT_KEY = "/etc/kubernetes/kube-apiserver/etcd-client.pem"


@dataclass
class Kernel:
    """The sockets of two members that are well."""

    inventory: Inventory = INVENTORY
    listen: dict[str, list[str]] = field(
        default_factory=lambda: {
            host.name: [
                f'LISTEN 0 4096 {host.address}:2379 0.0.0.0:* users:(("etcd",pid=7,fd=9))',
                'LISTEN 0 4096 127.0.0.1:2379 0.0.0.0:* users:(("etcd",pid=7,fd=8))',
                f'LISTEN 0 4096 {host.address}:2380 0.0.0.0:* users:(("etcd",pid=7,fd=6))',
            ]
            for host in HOSTS
        }
    )
    connected: dict[str, list[str]] = field(
        default_factory=lambda: {
            host.name: [
                f'0 0 {host.address}:51312 {peer.address}:2380 users:(("etcd",pid=7,fd=20))',
                f'0 0 {host.address}:40004 [::ffff:{host.address}]:2379 users:(("kube-apiserver",pid=9,fd=12))',
                f'0 0 {host.address}:2379 10.0.0.99:40004 users:(("etcd",pid=7,fd=12))',
            ]
            for host, peer in (HOSTS, HOSTS[::-1])
        }
    )

    readers: dict[str, list[str]] = field(
        default_factory=lambda: {
            host.name: ["/etc/etcd/pki/etcdctl.pem", "/etc/etcd/pki/server.pem etcd", f"{CLIENT_KEY} kube-apiserver"] for host in HOSTS
        }
    )

    def run(self, host: Host, *argv: str) -> str:
        if argv[0] == "sh":
            return "\n".join(self.readers[host.name])
        lines = self.connected if "established" in argv else self.listen
        return "\n".join(lines[host.name])


def judge(kernel: Kernel) -> str:
    return ports(cast("Stage", kernel))


def test_the_sockets_of_every_member_are_the_evidence() -> None:
    evidence = judge(Kernel())

    assert "controller-1: etcd listens on 10.0.0.1:2379, 10.0.0.1:2380, 127.0.0.1:2379" in evidence
    assert "controller-2: connected on 2380 with every other member" in evidence
    assert "clients from here on 2379: kube-apiserver" in evidence


def test_a_member_that_does_not_listen_fails() -> None:
    kernel = Kernel()
    kernel.listen["controller-2"].pop()

    with pytest.raises(Failed, match=r"etcd, and nobody else, on .* of controller-2"):
        judge(kernel)


def test_a_member_that_is_down_is_told_before_the_connections_that_others_lack() -> None:
    kernel = Kernel()
    kernel.listen["controller-2"].clear()
    kernel.connected["controller-2"].clear()
    del kernel.connected["controller-1"][0]

    with pytest.raises(Failed, match="of controller-2; got nobody listens"):
        judge(kernel)


def test_another_program_on_its_ports_fails() -> None:
    kernel = Kernel()
    kernel.listen["controller-1"].append('LISTEN 0 1 10.0.0.1:2379 0.0.0.0:* users:(("nc",pid=1,fd=3))')

    with pytest.raises(Failed, match=r"nc on 10\.0\.0\.1:2379"):
        judge(kernel)


@pytest.mark.parametrize(
    "line",
    ['0 0 10.0.0.1:2380 10.0.0.99:5000 users:(("etcd",pid=7,fd=30))', '0 0 10.0.0.1:5000 10.0.0.2:2380 users:(("nc",pid=1,fd=3))'],
    ids=["from outside", "another program"],
)
def test_a_stranger_on_the_members_port_fails(line: str) -> None:
    kernel = Kernel()
    kernel.connected["controller-1"].append(line)

    with pytest.raises(Failed, match="only members to be connected on 2380 of controller-1"):
        judge(kernel)


def test_members_that_are_not_connected_fail() -> None:
    kernel = Kernel()
    del kernel.connected["controller-1"][0]

    with pytest.raises(Failed, match="no connection with controller-2"):
        judge(kernel)


def test_another_daemon_as_client_fails() -> None:
    kernel = Kernel()
    kernel.connected["controller-2"].append('0 0 10.0.0.2:5000 10.0.0.2:2379 users:(("kube-scheduler",pid=3,fd=3))')

    with pytest.raises(Failed, match="kube-scheduler on controller-2"):
        judge(kernel)


def test_no_api_server_as_client_fails() -> None:
    kernel = Kernel()
    for lines in kernel.connected.values():
        del lines[1]

    with pytest.raises(Failed, match="API servers to be clients"):
        judge(kernel)


def test_who_is_a_client_of_etcd_and_who_could_be_is_the_evidence() -> None:
    evidence = only_client(cast("Stage", Kernel()))

    assert "ss on controller-1: clients of 2379: kube-apiserver" in evidence
    assert f"/etc/etcd/pki/etcdctl.pem by root alone; /etc/etcd/pki/server.pem by etcd; {CLIENT_KEY} by kube-apiserver" in evidence


def test_another_client_of_etcd_fails() -> None:
    kernel = Kernel()
    kernel.connected["controller-2"].append('0 0 10.0.0.2:40009 10.0.0.1:2379 users:(("kube-scheduler",pid=3,fd=3))')

    with pytest.raises(Failed, match=r"no client of etcd on controller-2 but .*; got kube-scheduler"):
        only_client(cast("Stage", kernel))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"{CLIENT_KEY} kube-apiserver kube-scheduler"], "readable by kube-apiserver alone; got kube-scheduler"),
        (["/etc/etcd/pki/server.pem etcd kube-apiserver", f"{CLIENT_KEY} kube-apiserver"], "readable by etcd alone; got kube-apiserver"),
        ([CLIENT_KEY], "or this check could not tell; got it cannot"),
    ],
)
def test_a_key_of_etcd_that_others_can_read_fails(lines: list[str], message: str) -> None:
    kernel = Kernel()
    kernel.readers["controller-2"] = lines

    with pytest.raises(Failed, match=message):
        only_client(cast("Stage", kernel))
