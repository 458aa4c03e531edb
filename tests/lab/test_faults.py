"""Those of the forty faults that want a whole cluster; each mended, and then there is nothing to change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hardway.inventory import Host
from tests.lab.conftest import LabCluster

pytestmark = pytest.mark.lab
WIPE = "systemctl stop etcd; rm -rf /var/lib/etcd/member"
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def marked(cluster: LabCluster, tmp_path: Path) -> Iterator[Path]:
    """A snapshot with a ConfigMap in it; whatever happens to etcd, the cluster is as before afterwards."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fault"}}
    assert cluster.live.request("POST", MAPS, body).status == 201
    path = tmp_path / "fault.db"
    assert cluster.inv("etcd.snapshot", "--out", str(path)).returncode == 0
    yield path
    assert cluster.live.request("DELETE", f"{MAPS}/fault").status == 200
    for host in cluster.inventory.on("controller"):
        cluster.live.run(host, "sh", "-c", "rm -rf /var/lib/etcd/before-*")
    assert cluster.inv("plan").returncode == 0


def held(cluster: LabCluster, host: Host) -> str:
    """What etcd's member on a host is and has, as far as a new one would differ."""
    return cluster.live.run(host, "sh", "-c", "cd /var/lib/etcd && stat -c %i:%n member member/snap member/wal; systemctl cat etcd.service")


def refused(cluster: LabCluster, *lost: Host) -> None:
    """A push tells which member is not well, and takes none for granted: no other one is touched."""
    others = [host for host in cluster.inventory.on("controller") if host not in lost]
    before = {host.name: held(cluster, host) for host in others}
    done = cluster.inv("push")
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(":")[1].strip() for line in told] == [host.name for host in lost]
    assert all("etcd has run here, and /var/lib/etcd/member is gone" in line for line in told), told
    assert {host.name: held(cluster, host) for host in others} == before


def test_fault_21_a_member_that_is_lost_with_its_data(cluster: LabCluster, marked: Path) -> None:
    lost = cluster.controller(2)
    cluster.live.run(lost, "sh", "-c", WIPE)
    refused(cluster, lost)
    assert cluster.inv("kubectl", "--", "get", "configmap", "fault").returncode == 0  # the other two are a quorum
    now = marked.with_name("now.db")
    assert cluster.inv("etcd.snapshot", "--out", str(now)).returncode == 0
    assert cluster.inv("etcd.restore", str(now), "--yes").returncode == 0
    assert cluster.live.api(f"{MAPS}/fault", host=lost).status == 200
    assert cluster.inv("push").returncode == 0


def test_fault_22_a_quorum_that_is_lost_with_its_data(cluster: LabCluster, marked: Path) -> None:
    lost = [cluster.controller(2), cluster.controller(3)]
    for host in lost:
        cluster.live.run(host, "sh", "-c", WIPE)
    refused(cluster, *lost)
    for host in lost:  # nothing is begun anew there
        assert cluster.live.run(host, "sh", "-c", "[ ! -e /var/lib/etcd/member ] && systemctl show -P ActiveState etcd") == "inactive\n"
    assert cluster.inv("etcd.restore", str(marked), "--yes").returncode == 0
    assert all(cluster.live.api(f"{MAPS}/fault", host=host).status == 200 for host in cluster.inventory.on("controller"))
    assert cluster.inv("push").returncode == 0


def test_fault_23_no_space_left_in_etcd(cluster: LabCluster) -> None:
    first = cluster.controller()
    alarm = {"action": "ACTIVATE", "memberID": "0", "alarm": "NOSPACE"}
    assert cluster.live.etcd(first, "/v3/maintenance/alarm", alarm).status == 200
    try:
        done = cluster.inv("rotate.authority", "etcd")
        assert done.returncode == 1
        assert "etcd is not well" in done.stderr
        assert "NOSPACE" in done.stderr
        assert cluster.inv("status").returncode == 1
        assert len(cluster.state.glob("pki/etcd/authority-*.pem")) == 1  # not begun
    finally:
        cluster.live.etcd(first, "/v3/maintenance/alarm", alarm | {"action": "DEACTIVATE"})
    assert cluster.inv("status").returncode == 0
    assert cluster.inv("plan").returncode == 0
