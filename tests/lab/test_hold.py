"""Who calls a kubelet while it or its runtime restarts waits, and nothing that is under way is cut for a second."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hardway.components import images, kubelet
from hardway.desired import container
from hardway.inventory import Host
from tests.lab.conftest import ROOT, LabCluster
from tests.lab.sabotage import shell, until
from tests.lab.seen import finished, loaded

pytestmark = pytest.mark.lab

PODS = "/api/v1/namespaces/default/pods"
# To be told to end from outside its Pod, once the unit is seen to be on its way down; `[e]` keeps pkill from its own shell.
ENDING = """
systemctl restart --no-block "$1"
looks=0
until [ "$(systemctl show --property=ActiveState --value "$1")" = deactivating ]; do [ $((looks += 1)) -lt 500 ]; sleep 0.01; done
pkill -TERM -f '[e]cho ended'
until systemctl is-active --quiet "$1"; do sleep 0.1; done
"""
# The runtime is away for long enough that the kubelet has called it, and comes back also where it has not.
IN_VAIN = """
cursor=$(journalctl -u kubelet -n 0 --show-cursor | sed -n 's/^-- cursor: //p')
trap 'systemctl start containerd' EXIT
systemctl stop containerd
looks=0
until journalctl -u kubelet --after-cursor="$cursor" -o cat | grep -q 'containerd.sock: connect: no such file'; do
  [ $((looks += 1)) -lt 80 ]
  sleep 0.05
done
"""


@pytest.fixture(scope="module")
def host(cluster: LabCluster) -> Iterator[Host]:
    """A worker with a Pod on it that has a shell."""
    where = cluster.inventory.on("worker")[0]
    one = container(images.reference(cluster.inventory, "agnhost"), "shell", "pause")
    spec = {"nodeName": where.name, "containers": [one], "terminationGracePeriodSeconds": 1}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell"}, "spec": spec}
    assert cluster.live.request("POST", PODS, body=pod).status == 201
    until(lambda: cluster.live.api(f"{PODS}/shell").json()["status"].get("phase") == "Running")
    yield where
    assert cluster.live.request("DELETE", f"{PODS}/shell").status == 200
    until(lambda: cluster.live.api(f"{PODS}/shell").status == 404)


def started(cluster: LabCluster, script: str) -> subprocess.Popen[str]:
    """An `exec` that has begun."""
    argv = [str(ROOT / "inv"), "--inventory", str(cluster.path), "kubectl", "--", "exec", "shell", "--", "sh", "-c", script]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("unit", ["kubelet.service", "containerd.service"])
def test_a_command_in_a_container_may_end_before_its_kubelet_does(cluster: LabCluster, host: Host, unit: str) -> None:
    process = started(cluster, "trap 'echo ended; exit' TERM; echo begun; while :; do sleep 0.02; done")

    shell(cluster.live, host, ENDING, unit)

    assert process.communicate(timeout=60) == ("ended\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("unit", ["kubelet.service", "containerd.service"])
def test_one_that_does_not_end_holds_up_no_restart(cluster: LabCluster, host: Host, unit: str) -> None:
    process = started(cluster, "echo begun; sleep 1000; echo ended")

    shell(cluster.live, host, 'systemctl restart "$1"', unit)

    assert process.communicate(timeout=60)[0] == ""


def test_nothing_waits_any_more_once_the_kubelet_has_its_runtime_again(cluster: LabCluster, host: Host) -> None:
    """After it has called in vain, when it has nothing but errors to tell until it calls again."""
    shell(cluster.live, host, IN_VAIN)

    assert kubelet.TABLE not in shell(cluster.live, host, "nft list tables")
    assert cluster.inv("kubectl", "--", "exec", "shell", "--", "echo", "there").stdout == "there\n"


@pytest.mark.full
def test_without_it_a_restart_shows(cluster: LabCluster) -> None:
    """By hand, outside the kit; and the unit starts all the same."""
    workers = cluster.inventory.on("worker")
    for one in workers:
        shell(cluster.live, one, 'mv "$1" "$1.kept"', str(kubelet.HOLD.path))
    try:
        with loaded(cluster) as load:
            for one in workers:
                shell(cluster.live, one, "systemctl restart kubelet")
            report = finished(load)
    finally:
        for one in workers:
            shell(cluster.live, one, 'mv "$1.kept" "$1"', str(kubelet.HOLD.path))

    kinds = {one["kind"] for one in report.failures if one["visible"]}
    assert kinds
    assert kinds <= {"exec", "logs"}
