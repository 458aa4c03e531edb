"""Hosts that reboot come back by themselves, and the cluster with them."""

import subprocess
import threading
import time
from collections.abc import Sequence

import pytest

from hardway.inventory import Host
from hardway.lab import hosts
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import passes

pytestmark = [pytest.mark.lab, pytest.mark.full]

WITHIN = 300.0  # seconds for a boot and for all that follows it, on a machine that may be busy
BOOTED = ("systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic")


def over_ssh(cluster: LabCluster, host: Host, *argv: str) -> str:
    """What a command says; nothing where SSH does not answer."""
    return subprocess.run([*hosts.ssh(host, cluster.state.root), *argv], capture_output=True, text=True, check=False).stdout


def reboot(cluster: LabCluster, hosts: Sequence[Host]) -> None:
    """Until each has booted again, and all is well without anybody's help."""
    before = {host: over_ssh(cluster, host, *BOOTED) for host in hosts}
    assert all(before.values())
    for host in hosts:
        over_ssh(cluster, host, "systemctl", "reboot")
    pause, deadline = threading.Event(), time.monotonic() + WITHIN
    while not all((now := over_ssh(cluster, host, *BOOTED)) and now != before[host] for host in hosts) or cluster.inv("status").returncode:
        assert time.monotonic() < deadline
        pause.wait(0.5)


def test_each_host_in_turn_comes_back_by_itself(cluster: LabCluster) -> None:
    for host in cluster.inventory.hosts:
        reboot(cluster, [host])
    assert cluster.inv("plan").returncode == 0
    cluster.read_again()
    passes(cluster)


def test_all_hosts_at_once_come_back_by_themselves(cluster: LabCluster) -> None:
    reboot(cluster, cluster.inventory.hosts)
    assert cluster.inv("plan").returncode == 0
    cluster.read_again()
    passes(cluster)
