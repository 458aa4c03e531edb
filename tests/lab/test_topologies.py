"""The other shapes of a cluster: one host with everything and no balancer, an endpoint or a network of the operator's own."""

from __future__ import annotations

import json
import re
import selectors
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

import pytest

from hardway.binaries import CACHE, fetch
from hardway.lab import hosts
from tests.lab.conftest import LabCluster, booted, shipped

pytestmark = pytest.mark.lab

ONE = re.compile(r"^  (lb-1|controller-[23]|worker-.):.*\n", re.MULTILINE)
BALANCER = re.compile(r"^  lb-1:.*\n", re.MULTILINE)
WORKERS = re.compile(r"^  worker-.:.*\n", re.MULTILINE)
# What one node alone cannot show.
OF_SEVERAL = ("kube-apiserver-lb.unit", "apiserver.balanced")


def one_host(network: int) -> str:
    """The shipped inventory with one host for all roles."""
    text = ONE.sub("", shipped("one", network)).replace("loadbalancer: haproxy", "loadbalancer: none")
    text = text.replace("roles: [controller]", "roles: [controller, worker]")
    return re.sub(rf"(  address: 10\.{network}\.\d+)\.10\n", r"\1.11\n", text)


def proved(cluster: LabCluster, *skipped: str) -> None:
    """Up, green but for what the shape has not got, and nothing left to push."""
    assert cluster.inv("up").returncode == 0
    report = json.loads(cluster.inv("smoke", "--json", "-").stdout)
    assert {one["status"] for one in report["checks"]} <= {"passed", "skipped"}
    assert {one["name"] for one in report["checks"] if one["status"] == "skipped"} == set(skipped)
    assert cluster.inv("plan").returncode == 0


def test_one_host_runs_everything_without_a_balancer_and_its_etcd_stays_alone(tmp_path: Path) -> None:
    text = one_host(243)
    with booted(tmp_path / "one.yaml", text) as cluster:
        proved(cluster, *OF_SEVERAL)

        grown = WORKERS.sub("", BALANCER.sub("", shipped("one", 243))).replace("loadbalancer: haproxy", "loadbalancer: external")
        cluster.path.write_text(grown)
        assert cluster.inv("lab.up").returncode == 0
        done = cluster.inv("push")
        cluster.path.write_text(text)

        assert done.returncode == 1
        assert "controller-1: its etcd was made with controller-1, and etcd's members do not change by a push" in done.stderr
        assert cluster.inv("plan").returncode == 0


def test_fewer_controllers_than_etcd_was_made_with_are_refused(cluster: LabCluster) -> None:
    text = cluster.path.read_text()
    cluster.path.write_text(re.sub(r"^  controller-[23]:.*\n", "", text, flags=re.MULTILINE))
    try:
        done = cluster.inv("push")
    finally:
        cluster.path.write_text(text)

    assert done.returncode == 1
    assert "controller-1: its etcd was made with controller-1, controller-2, controller-3" in done.stderr
    assert cluster.inv("plan").returncode == 0


@contextmanager
def forwarder(listen: tuple[str, int], targets: list[tuple[str, int]]) -> Iterator[None]:
    """A balancer of the operator's own: TCP, round robin, on this machine's address in the lab's network."""
    server = socket.create_server(listen)
    over = threading.Event()
    turns = cycle(targets)

    def carry(near: socket.socket) -> None:
        with suppress(OSError), near, socket.create_connection(next(turns), timeout=10) as far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while not over.is_set():
                for key, _ in ready.select(timeout=0.5):
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        return
                    key.data.sendall(data)

    def accept() -> None:
        while not over.is_set():
            try:
                near, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(near,), daemon=True).start()

    listening = threading.Thread(target=accept)
    listening.start()
    try:
        yield
    finally:
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        listening.join()


@pytest.mark.full
def test_three_controllers_stand_behind_an_endpoint_of_the_operators_own(tmp_path: Path) -> None:
    text = BALANCER.sub("", shipped("own", 244)).replace("loadbalancer: haproxy", "loadbalancer: external")
    text = re.sub(r"(  address: 10\.244\.\d+)\.10\n  port: 6443", r"\1.1\n  port: 7443", text)
    with booted(tmp_path / "own.yaml", text) as cluster:
        endpoint = cluster.inventory.endpoint
        targets = [(str(host.address), 6443) for host in cluster.inventory.on("controller")]
        with forwarder((str(endpoint.address), endpoint.port), targets):
            proved(cluster, "kube-apiserver-lb.unit")


IPAM = {"type": "host-local", "ranges": [[{"subnet": "10.201.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
BRIDGE = {"isGateway": True, "hairpinMode": True}
MINE = {"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "bridge", "bridge": "mine0", **BRIDGE, "ipam": IPAM}]}


@pytest.mark.full
def test_a_network_of_the_operators_own_is_left_to_him_and_not_waited_for(tmp_path: Path) -> None:
    with booted(tmp_path / "none.yaml", f"network: none\nproxy_mode: iptables\n{one_host(245)}") as cluster:
        assert cluster.inv("push").returncode == 0
        assert cluster.inv("plan").returncode == 0
        host = cluster.controller()
        seen = cluster.live.machine(host).observe(frozenset())
        said = cluster.inv("kubectl", "--", "get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')]}").stdout
        assert "cni plugin not initialized" in said
        assert not cluster.live.run(host, "ip", "-4", "route", "show", "proto", "86").strip()

        # The least that another network is: plugins, and their configuration.
        plugins = fetch(["bridge", "host-local", "loopback"], seen.facts.arch, cluster.inventory, CACHE, print)
        for name, one in plugins.items():
            subprocess.run(
                [*hosts.ssh(host, cluster.state.root), f"mkdir -p /opt/cni/bin; cat >/opt/cni/bin/{name}; chmod 755 /opt/cni/bin/{name}"],
                input=one.path.read_bytes(),
                check=True,
            )
        cluster.live.run(
            host, "sh", "-c", 'mkdir -p /etc/cni/net.d; printf %s "$1" >/etc/cni/net.d/10-mine.conflist', "sh", json.dumps(MINE)
        )
        assert cluster.inv("kubectl", "--", "wait", "--for=condition=Ready", "node", "--all", "--timeout=120s").returncode == 0
        assert cluster.inv("plan").returncode == 0
        done = cluster.inv("smoke", "--component", "kube-proxy")
        assert done.returncode == 0
        assert "KUBE-SERVICES" in cluster.live.run(host, "iptables-save")
