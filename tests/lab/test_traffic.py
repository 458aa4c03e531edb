"""Traffic on a real cluster: nothing to be seen when nothing happens, and each outage as long as it was."""

from __future__ import annotations

import json
import re

import pytest

from hardway.components import etcd, kube_apiserver, kube_apiserver_lb
from hardway.smoke.removal import NAMESPACES
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import shell, until
from tests.lab.seen import finished, loaded, not_seen, wait

pytestmark = pytest.mark.lab

KINDS = {"get", "list", "put", "post", "delete", "watch", "exec", "logs", "webhook", "metrics", "service", "service_account"}


def nothing_left(cluster: LabCluster) -> str | None:
    items = cluster.live.api(NAMESPACES).json()["items"]
    left = [item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith("hardway-traffic")]
    return f"{left} are there" if left else None


def test_a_quiet_run_has_no_failure_and_what_was_planned_of_each_kind(cluster: LabCluster) -> None:
    done = cluster.inv("traffic", "--for", "10s", "--json", "-")

    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["client_visible_failures"], document["raw_failures"], document["failures"]) == (0, 0, [])
    assert (set(document["by_kind"]), document["left_out"]) == (KINDS, {})
    assert all(one["requests"] >= one["planned"] > 0 for one in document["by_kind"].values())
    assert document["requests"] / document["seconds"] >= 50
    assert nothing_left(cluster) is None


def test_a_balancer_that_is_away_for_two_seconds_shows(cluster: LabCluster) -> None:
    balancer, unit = cluster.inventory.on("loadbalancer")[0], kube_apiserver_lb.COMPONENT.unit
    with loaded(cluster) as load:
        cluster.live.run(balancer, "systemctl", "stop", unit)
        wait(2)
        cluster.live.run(balancer, "systemctl", "start", unit)
        report = finished(load)

    assert report.visible > 0
    assert report.raw >= report.visible
    assert not report.green
    assert 2 <= report.gap <= 8
    assert any(one["cause"] == "connect: connection refused" for one in report.failures)


def test_an_api_server_that_is_killed_shows_by_its_name(cluster: LabCluster) -> None:
    victim, unit = cluster.controller(2), kube_apiserver.COMPONENT.unit
    with loaded(cluster) as load:
        # It answers in milliseconds, so that at most moments nothing is under way; in a second every kept client asks once.
        cluster.live.run(victim, "systemctl", "kill", "--signal=STOP", unit)
        wait(1)
        cluster.live.run(victim, "systemctl", "kill", "--signal=KILL", unit)
        report = finished(load)
    until(lambda: kube_apiserver.ready(cluster.live, victim) is None)

    assert report.raw > 0
    assert {one["instance"] for one in report.failures} & {victim.name}
    direct = [one for one in report.failures if one["kind"] != "metrics"]  # its server asks an API server too, any of them
    assert {one["instance"] for one in direct} <= {victim.name, ""}
    assert 0 < report.gap <= 12


@pytest.mark.parametrize(
    "component",
    [
        "kube-apiserver",
        "etcd",
        "kube-apiserver-lb",
        "kubelet",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("kube-controller-manager", "kube-scheduler", "containerd", "kube-proxy")),
    ],
)
def test_no_client_sees_a_restart(cluster: LabCluster, component: str) -> None:
    done = cluster.inv("restart", component, "--with-traffic", "--json", "-")

    document = json.loads(done.stdout)
    assert done.returncode == (document["client_visible_failures"] > 0)
    assert document["left_out"] == {}
    not_seen(document)
    assert ("kube-apiserver stood still on 3 hosts" in done.stderr) == (component == "etcd")


WATCHES = """
cd /etc/etcd/pki
set -- etcdctl --endpoints https://127.0.0.1:2379 --cacert "$PWD/ca.crt" --cert "$PWD/etcdctl.pem" --key "$PWD/etcdctl.pem" watch nothing
systemd-run --quiet --unit=watches "$@"
"""


def test_no_client_sees_watches_that_are_cut_where_a_member_of_etcd_is_restarted_by_hand(cluster: LabCluster) -> None:
    leader, unit = etcd.leader(cluster.live), etcd.COMPONENT.unit
    host = next(host for host in cluster.inventory.on("controller") if host != leader)
    shell(cluster.live, host, WATCHES)  # API servers may all do so at the other members
    try:
        until(lambda: "etcdctl" in shell(cluster.live, host, "ss -Htnp state established dport = :2379"))
        with loaded(cluster) as load:
            cursor = shell(cluster.live, host, "journalctl -n 0 --show-cursor -o cat").strip().removeprefix("-- cursor: ")
            cluster.live.run(host, "systemctl", "restart", unit)
            report = finished(load)
    finally:
        cluster.live.run(host, "systemctl", "stop", "watches.service")

    told = shell(cluster.live, host, 'journalctl --after-cursor "$1" -o cat -u "$2"', cursor, unit)
    assert re.search(r"^cut [1-9]\d* connections of clients$", told, re.MULTILINE)
    not_seen(report.document)


def test_ctrl_c_leaves_nothing(cluster: LabCluster) -> None:
    with pytest.raises(KeyboardInterrupt), loaded(cluster):
        raise KeyboardInterrupt
    assert nothing_left(cluster) is None
