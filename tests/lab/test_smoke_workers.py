"""The checks of workers turn red when what runs Pods is broken, or does something else than the API says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from hardway.components import containerd, kubelet
from hardway.inventory import Host
from hardway.remote.fanout import each
from hardway.smoke import ClusterStage, callers, checks
from hardway.smoke.checks import sockets
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import assert_green, assert_red, fresh, shell, until

pytestmark = pytest.mark.lab

UNITS = ("unfinished-push", "node-kernel", "pod-network", "containerd", "preloaded-images", "kubelet", "kube-proxy")
# Stands in for runc: what it is asked to begin it changes first. $EDIT is a script for each container's config.json; $ALONE are commands
# of sed for that of one that is not its Pod's first, $EXEC for a process that is begun in one.
RUNC = """#!/bin/sh
real=/usr/local/bin/runc.kept bundle= process= last=
for word; do
  case $last in --bundle) bundle=$word;; --process) process=$word;; esac
  [ "$word" != --version ] || { echo "runc version 1.0.0"; exit; }
  last=$word
done
if [ "$bundle" ] && [ -e "$bundle/config.json" ]; then
  $EDIT
  if grep -qE '"io.kubernetes.cri.container-name":"(sidecar|ambassador|adapter)"' "$bundle/config.json"; then
    mkdir -p "$bundle/alone"; chmod 0777 "$bundle/alone"
    sed -i '$ALONE' "$bundle/config.json"
  fi
fi
[ -z "$process" ] || sed -i '$EXEC' "$process"
exec $real "$@"
"""
# Its own limit, and the one that the kubelet has set for its Pod: in version 1 of control groups, or 2, by cgroupfs or systemd.
UNLIMITED = """
  path=$(sed -n 's/.*"cgroupsPath":"\\([^"]*\\)".*/\\1/p' "$bundle/config.json")
  case $path in *:*) pod=${path%%:*};; *) pod=${path%/*} pod=${pod##*/};; esac
  find /sys/fs/cgroup -type d -name "$pod" | while read -r group; do
    for limit in memory.memsw.limit_in_bytes memory.limit_in_bytes; do
      [ ! -e "$group/$limit" ] || echo -1 >"$group/$limit"
    done
    [ ! -e "$group/memory.max" ] || echo max >"$group/memory.max"
  done
  sed -i 's/"memory":{[^}]*}/"memory":{}/' "$bundle/config.json"
"""
APART = 's#"source":"[^"]*empty-dir[^"]*"#"source":"\'"$bundle"\'/alone"#; s#{"type":"network","path":"[^"]*"}#{"type":"network"}#'
CONTENT = 's#"args":\\["test",[^]]*\\]#"args":["true"]#'  # of whoever looks for something


@pytest.fixture(scope="module", autouse=True)
def well(cluster: LabCluster) -> Iterator[None]:
    """Afterwards: nothing that a push would change."""
    yield
    assert cluster.inv("plan").returncode == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken does not come about in any time."""
    monkeypatch.setattr(checks.pods, "WITHIN", 10.0)
    monkeypatch.setattr(checks.kubelet, "NOTICED", 10.0)


@pytest.fixture(scope="module")
def stage(cluster: LabCluster) -> Iterator[ClusterStage]:
    with fresh(cluster) as on:
        yield on


def on_workers(cluster: LabCluster, script: str, *argv: str) -> None:
    each(cluster.inventory.on("worker"), lambda host: shell(cluster.live, host, script, *argv), 4)


@contextmanager
def another_runc(cluster: LabCluster, *, edit: str = ":", alone: str = "", exec_: str = "") -> Iterator[None]:
    text = RUNC.replace("$EDIT", edit).replace("$ALONE", alone).replace("$EXEC", exec_)
    on_workers(cluster, 'cd /usr/local/bin; mv runc runc.kept; printf %s "$1" >runc; chmod 0755 runc', text)
    try:
        yield
    finally:
        on_workers(cluster, "cd /usr/local/bin; mv runc.kept runc")


@contextmanager
def kubelet_with(cluster: LabCluster, host: Host, text: str, *ports: int) -> Iterator[None]:
    """A file that is merged over the kubelet's own configuration. Systemd takes a kubelet for started before its ports are open."""
    head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    path = "/etc/kubernetes/kubelet/conf.d/99-sabotage.conf"
    shell(cluster.live, host, 'printf %s "$2" >"$1"; systemctl restart kubelet', path, head + text)
    until(lambda: opened(cluster, host) == {10250, *ports})
    try:
        yield
    finally:
        shell(cluster.live, host, 'rm "$1"; systemctl restart kubelet', path)
        until(lambda: opened(cluster, host) == {10250})
        until(lambda: kubelet.ready(cluster.live, host) is None)


def opened(cluster: LabCluster, host: Host) -> set[int]:
    """Which of the kubelet's two ports are open."""
    return {socket.local_port for socket in sockets.listening(cluster.live, host, 10250, 10255)}


def test_units_of_a_worker_that_were_edited_are_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    """One of them by a drop-in: its own file is as it was."""
    host = cluster.inventory.on("worker")[0]
    drop_in = "/run/systemd/system/node-kernel.service.d/sabotage.conf"
    edited = [f"/etc/systemd/system/{unit}.service" for unit in UNITS if unit != "node-kernel"]
    edit = """
    dropin=$1; shift
    for file; do cp -p "$file" "/run/${file##*/}.kept"; sed -i 's/^Description=.*/&, edited/' "$file"; done
    mkdir -p "${dropin%/*}"; printf '[Service]\\nExecStart=/bin/echo more\\n' >"$dropin"; systemctl daemon-reload
    """
    restore = """
    rm -r "${1%/*}"; shift
    for file; do mv "/run/${file##*/}.kept" "$file"; done
    systemctl daemon-reload
    """

    shell(cluster.live, host, edit, drop_in, *edited)
    try:
        assert_red(
            stage,
            node_kernel__unit="expected node-kernel.service on worker-1 to run as rendered; got its commands are not those",
            unfinished_push__unit="or none, edited` instead of `Description=",
            pod_network__unit="nodes, edited` instead of `Description=",
            containerd__unit="runtime, edited` instead of `Description=",
            preloaded_images__unit="node, edited` instead of `Description=",
            kubelet__unit="node, edited` instead of `Description=",
            kube_proxy__unit="node, edited` instead of `Description=",
        )
    finally:
        shell(cluster.live, host, restore, drop_in, *edited)

    assert_green(stage, *(f"{unit}.unit" for unit in UNITS))


def test_a_container_that_was_killed_behind_its_kubelet_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    assert_green(stage, "kubelet.chain", "pods.single")
    host = cluster.inventory.on("worker")[0]
    pod = next(pod for pod in callers.fleet(stage).pods if pod["spec"]["nodeName"] == host.name)
    identifier = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")

    def state() -> str:
        return str(json.loads(cluster.live.run(host, "crictl", "inspect", identifier))["status"]["state"])

    shell(cluster.live, host, 'systemctl kill --signal=STOP kubelet; ctr -n k8s.io tasks kill --signal SIGKILL "$1"', identifier)
    try:
        until(lambda: state() == "CONTAINER_EXITED")
        assert_red(stage, kubelet__chain=f"in containerd on {host.name}; got CONTAINER_EXITED of ")
    finally:
        shell(cluster.live, host, "systemctl kill --signal=CONT kubelet")

    path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}"

    def begun_again() -> bool:
        (status,) = cluster.live.api(path).json()["status"]["containerStatuses"]
        return bool(status["ready"] and status["restartCount"])

    until(begun_again)
    assert_green(stage, "kubelet.chain")


@pytest.mark.usefixtures("impatient")
def test_a_runtime_that_keeps_containers_of_a_pod_apart_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    """It has another version, and lets every probe succeed that looks for a file."""
    with another_runc(cluster, alone=APART, exec_=CONTENT):
        assert_red(
            stage,
            runtime__runs="expected runc on worker-1 to be 1.5.2; got 1.0.0",
            kubelet__runs="not ready, as its readiness probe fails; got after 10 s: the endpoints are {'",
            pods__sidecar="to succeed: its main container finds the sidecar's work; got exit code 9",
            pods__ambassador="'s answer to localhost; got after 10 s: the log of main is ''",
            pods__adapter="; got after 10 s: the log of adapter is ''",
        )

    assert containerd.answers(cluster.live, cluster.inventory.on("worker")[0]) is None


@pytest.mark.usefixtures("impatient")
def test_a_runtime_that_sets_no_limits_is_seen_and_routes_that_are_lost(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.inventory.on("worker")[1]

    with another_runc(cluster, edit=UNLIMITED):
        shell(cluster.live, host, "ip route flush proto 86")
        try:
            assert_red(
                stage,
                kubelet__runs="which takes 256Mi of 32Mi, to be OOMKilled; got exit code 0, Completed",
                pods__single=", from worker-1 to worker-2; got after 10 s: ",
            )
        finally:
            shell(cluster.live, host, "systemctl restart pod-network")

    assert_green(stage, "kubelet.runs", "runtime.runs", "pods.single")


def test_a_kubelet_that_lets_anybody_in_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.inventory.on("worker")[0]
    open_to_all = "authentication: {anonymous: {enabled: true}}\nauthorization: {mode: AlwaysAllow}\n"

    with kubelet_with(cluster, host, "readOnlyPort: 10255\n", 10255):
        assert_red(stage, kubelet__refuses_strangers="10250 of worker-1 to be open and 10255 closed; got open are [10250, 10255]")
    with kubelet_with(cluster, host, open_to_all):
        assert_red(stage, kubelet__refuses_strangers="expected 401 of the kubelet on worker-1 for nobody; got 200")

    assert_green(stage, "kubelet.refuses-strangers")


@pytest.mark.full
def test_a_kubelet_that_is_silent_is_seen_and_one_that_is_not_when_it_should_be(
    cluster: LabCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = cluster.inventory.on("worker")[0]
    with fresh(cluster) as on:
        with on.stopped(host, "kubelet.service"):
            assert_red(on, controllers__node=f"the Lease of each node to be renewed within 40 s; got after 40 s: {host.name} was")
        until(lambda: kubelet.ready(cluster.live, host) is None)
        monkeypatch.setattr(on, "stopped", lambda *_: nullcontext())
        assert_red(on, controllers__node_loss="whose kubelet is stopped, to count as lost; got after 90 s: Ready is True")
        monkeypatch.undo()
        assert_green(on, "controllers.node")
