"""Those of the forty faults that want a whole cluster; each mended, and then there is nothing to change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hardway.components import etcd
from hardway.inventory import Host
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import until

pytestmark = pytest.mark.lab
WIPE = "systemctl stop etcd; rm -rf /var/lib/etcd/member"
# All of it; and what a member makes that starts without and sees that it may not begin.
LOSE = "systemctl stop etcd; rm -rf /var/lib/etcd/*; mkdir -p /var/lib/etcd/member/snap"
LEFT = "ls -d /run/systemd/system/etcd.service.d/rejoin.* /var/lib/hardway/rejoining 2>/dev/null || :"
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
    assert all("etcd has run here, and /var/lib/etcd/member/wal is gone" in line for line in told), told
    assert {host.name: held(cluster, host) for host in others} == before


@pytest.mark.usefixtures("marked")
def test_fault_21_a_member_that_is_lost_with_its_data(cluster: LabCluster) -> None:
    """Put back while the cluster is in use, and whole: it votes, has what was written before, and nothing is left to do."""
    lost, other = cluster.controller(2), cluster.controller(3)
    old = next(one for one in etcd.membership(cluster.live, other) if one.name == lost.name)
    cluster.live.run(lost, "sh", "-c", LOSE)
    refused(cluster, lost)
    assert "./inv etcd.rejoin controller-2" in cluster.inv("status").stderr
    assert cluster.inv("kubectl", "--", "get", "configmap", "fault").returncode == 0  # the other two are a quorum

    done = cluster.inv("etcd.rejoin", lost.name)

    assert done.returncode == 0
    assert "controller-2 has a member that votes again" in done.stdout
    assert old not in etcd.membership(cluster.live, other)
    back(cluster, lost)
    again = cluster.inv("etcd.rejoin", lost.name)
    assert again.returncode == 1
    assert "controller-2: its member is well: there is nothing to mend" in again.stderr


def back(cluster: LabCluster, lost: Host) -> None:
    """Three members that vote and are well; the one that was lost has what was written before, and nothing is left to do."""
    controllers = cluster.inventory.on("controller")
    listed = {(one.name, one.learner) for one in etcd.membership(cluster.live, lost)}
    assert listed == {(host.name, False) for host in controllers}
    assert [etcd.member_healthy(cluster.live, host) for host in controllers] == [None] * 3
    held = [etcd.value(cluster.live, host, "/registry/configmaps/default/fault") for host in controllers]
    assert held[0]
    assert held == [held[0]] * 3
    assert cluster.live.api(f"{MAPS}/fault", host=lost).status == 200
    assert not cluster.live.run(lost, "sh", "-c", LEFT)
    assert cluster.inv("status").returncode == 0
    assert cluster.inv("plan").returncode == 0


@pytest.mark.full
@pytest.mark.usefixtures("marked")
def test_fault_21_nobody_sees_that_a_member_comes_back(cluster: LabCluster) -> None:
    lost = cluster.controller(3)
    cluster.live.run(lost, "sh", "-c", LOSE)
    with cluster.start("traffic", "--for", "20s") as load:
        assert load.stderr
        assert any("the load is on" in line for line in load.stderr)
        assert cluster.inv("etcd.rejoin", lost.name).returncode == 0
        told = load.stderr.read()
    assert load.returncode == 0, told
    back(cluster, lost)


@pytest.mark.full
@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("cut", ["its old member", "is let in as a learner", "the learner has joined"])
def test_fault_21_a_rejoin_that_is_killed_as_the_host_loses_its_power(cluster: LabCluster, cut: str) -> None:
    """Started by the host itself, a member without data makes one that waits for ever, or nothing: the same again goes on from there."""
    lost = cluster.controller(2)
    cluster.live.run(lost, "sh", "-c", LOSE)
    with cluster.start("etcd.rejoin", lost.name) as run:
        assert run.stderr
        assert any(cut in line for line in run.stderr)
        run.kill()
    cluster.cut_power(lost)
    cluster.boot()
    cluster.read_again()  # our own connection to it is gone too

    assert cluster.inv("etcd.rejoin", lost.name).returncode == 0

    back(cluster, lost)
    until(lambda: all(writes(cluster, host) for host in cluster.inventory.on("controller")))


def writes(cluster: LabCluster, host: Host) -> bool:
    """Whether an API server writes by each of its connections to etcd in turn; that a member lost its power shows it by the next use."""
    changes = ({"data": {"written": str(turn)}} for turn in range(2 * len(cluster.inventory.on("controller"))))
    return all(cluster.live.request("PATCH", f"{MAPS}/fault", change, host=host).status == 200 for change in changes)


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
