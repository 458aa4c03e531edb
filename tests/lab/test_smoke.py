"""Every smoke check passes on a cluster that is well, and turns red when the thing that it proves is broken."""

from __future__ import annotations

import json
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pytest

from hardway.components import etcd, kube_apiserver
from hardway.components.lease import holder_renews
from hardway.inventory import Host
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.smoke import CHECKS, ClusterStage, Kubectl, runner
from hardway.smoke.report import Result
from hardway.verbs import smoke as verb
from hardway.verbs.program.console import Console
from hardway.verbs.program.session import Session
from tests.lab.conftest import LabCluster

pytestmark = pytest.mark.lab

DROP_IN = "/run/systemd/system/{unit}.d/sabotage.conf"
HAPROXY = """use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print $s "$ARGV[1]\\n"; print while <$s>;"""


@pytest.fixture(scope="module", autouse=True)
def well(cluster: LabCluster) -> Iterator[None]:
    """Before: all green, nothing skipped. After: the same, and nothing that a push would change."""
    passes(cluster)
    yield
    passes(cluster)
    assert cluster.inv("plan").returncode == 0


@pytest.fixture(scope="module")
def stage(cluster: LabCluster) -> Iterator[ClusterStage]:
    with fresh(cluster) as on:
        yield on


@contextmanager
def fresh(cluster: LabCluster) -> Iterator[ClusterStage]:
    """A run's stage, whose beginning is now."""
    session = Session(inventory=cluster.inventory, console=Console())
    with verb._stage(session, cluster.live, print) as on:
        yield on


def passes(cluster: LabCluster) -> None:
    """The whole report of a cluster that is well."""
    done = cluster.inv("smoke", "--json", "-")
    found = json.loads(done.stdout)
    assert {one["name"]: (one["status"], one["reason"]) for one in found["checks"]} == {check.name: ("passed", "") for check in CHECKS}
    assert done.returncode == 0


def verdicts(stage: ClusterStage, *names: str) -> dict[str, Result]:
    chosen = [check for check in CHECKS if check.name in names]
    assert len(chosen) == len(names)
    return {result.name: result for result in runner.run(chosen, stage, have={"api", "hosts"}, tell=print)}


def assert_red(stage: ClusterStage, **reasons: str) -> None:
    """Checks that must fail, each with what must be in its reason; `__` stands for the dot, `_` for the dash."""
    names = {name.replace("__", ".").replace("_", "-"): reason for name, reason in reasons.items()}
    found = verdicts(stage, *names)
    assert {name: result.status for name, result in found.items()} == dict.fromkeys(names, "failed")
    for name, reason in names.items():
        assert reason in found[name].reason
        assert "the check itself broke" not in found[name].reason


def assert_green(stage: ClusterStage, *names: str) -> None:
    assert {name: result.reason for name, result in verdicts(stage, *names).items()} == dict.fromkeys(names, "")


def shell(live: Cluster, host: Host, script: str, *argv: str) -> str:
    return live.run(host, "sh", "-ec", script, "sh", *argv)


def with_flags(live: Cluster, host: Host, unit: str, *flags: str) -> None:
    """A drop-in that gives a daemon more flags; what comes last wins."""
    text = live.run(host, "cat", f"/etc/systemd/system/{unit}")
    exec_start = text[text.index("ExecStart=") :]
    line = exec_start[: exec_start.index("\n\n")]  # the shipped units have an empty line after it
    more = " \\\n  ".join(flags)
    drop_in = DROP_IN.format(unit=unit)
    script = 'mkdir -p "${1%/*}"; printf %s "$2" >"$1"; systemctl daemon-reload; systemctl restart "$3"'
    shell(live, host, script, drop_in, f"[Service]\nExecStart=\n{line} \\\n  {more}\n", unit)


def without_flags(live: Cluster, host: Host, unit: str) -> None:
    shell(live, host, 'rm -r "${1%/*}"; systemctl daemon-reload; systemctl restart "$2"', DROP_IN.format(unit=unit), unit)


def afresh(live: Cluster, component: str) -> None:
    """Free the Lease that the controller manager does not give back, so that nobody waits until it has run out."""
    live.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{component}")


def until(ask: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if ask():
            return
        pause.wait(0.1)
    raise AssertionError("it did not come about within a minute")


def test_a_stopped_api_server_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.controller(3)

    with stage.stopped(host, "kube-apiserver.service"):
        assert_red(
            stage, apiserver__ready=f"/readyz and /version of {kube_apiserver.url(host)} to answer", kube_apiserver__unit="it is inactive"
        )

    until(lambda: kube_apiserver.ready(cluster.live, host) is None)
    assert_green(stage, "apiserver.ready")


def test_a_server_that_the_balancer_leaves_out_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    def haproxy(state: str) -> None:
        command = f"set server kube-apiserver/controller-2 state {state}"
        cluster.live.run(cluster.inventory.on("loadbalancer")[0], "perl", "-e", HAPROXY, "/run/kube-apiserver-lb/admin.sock", command)

    haproxy("maint")
    try:
        assert_red(
            stage, apiserver__balanced="new connections to reach each of controller-1, controller-2, controller-3; got controller-1 "
        )
        assert_green(stage, "apiserver.ready")  # each instance is well: only the balancer is not
    finally:
        haproxy("ready")


def test_a_balancer_whose_unit_was_edited_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.inventory.on("loadbalancer")[0]
    unit = "/etc/systemd/system/kube-apiserver-lb.service"

    shell(cluster.live, host, 'cp -p "$1" /run/kept; sed -i s/TimeoutStopSec=20/TimeoutStopSec=21/ "$1"', unit)
    try:
        assert_red(stage, kube_apiserver_lb__unit="`TimeoutStopSec=21` instead of `TimeoutStopSec=20`")
    finally:
        shell(cluster.live, host, 'mv /run/kept "$1"; systemctl daemon-reload', unit)

    assert_green(stage, "kube-apiserver-lb.unit")


def test_a_kubectl_that_shows_something_else_is_seen(stage: ClusterStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cast("Kubectl", stage._kubectl)
    liar = tmp_path / "kubectl"
    liar.write_text(f'#!/bin/sh\n{shlex.quote(str(real.program))} "$@" | sed \'s/"uid": "./"uid": "x/\'\n')
    liar.chmod(0o755)
    monkeypatch.setattr(stage, "_kubectl", Kubectl(program=liar, kubeconfig=real.kubeconfig))

    assert_red(stage, apiserver__json="got other values of metadata")


def test_a_stopped_member_of_etcd_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    leader = etcd.leader(cluster.live)
    host = next(host for host in cluster.inventory.on("controller") if host != leader)

    with stage.stopped(host, "etcd.service"):
        assert_red(
            stage,
            etcd__quorum=f"expected the member on {host.name} to be healthy",
            etcd__ports=f"of {host.name}; got nobody listens",
            etcd__unit="it is inactive",
        )

    until(lambda: all(etcd.member_healthy(cluster.live, member) is None for member in cluster.inventory.on("controller")))
    assert_green(stage, "etcd.quorum")


def test_a_stranger_on_the_port_of_the_members_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.controller(1)

    with socket.create_connection((str(host.address), etcd.PEER_PORT)):
        assert_red(stage, etcd__ports=f"expected only members to be connected on 2380 of {host.name}")


def test_an_etcdctl_without_its_certificate_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.controller(2)

    shell(cluster.live, host, "mv /etc/etcd/pki/etcdctl.pem /run/kept.pem")
    try:
        assert_red(stage, etcd__keys="on controller-2 to list the keys")
    finally:
        shell(cluster.live, host, "mv /run/kept.pem /etc/etcd/pki/etcdctl.pem")


def test_an_api_server_that_does_not_encrypt_and_has_another_flag_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    host, unit = cluster.controller(2), "kube-apiserver.service"
    config = "/etc/kubernetes/kube-apiserver/encryption.yaml"
    plain = "/run/sabotage.yaml"
    # `identity` to the first place: what was last among the providers comes before the first.
    shell(
        cluster.live,
        host,
        'sed \'/identity:/d; s/^    providers:/&\\n      - identity: {}/\' "$1" >"$2"; chown root:kube-apiserver "$2"',
        config,
        plain,
    )
    shell(cluster.live, host, 'chmod 0640 "$1"', plain)

    try:
        with_flags(cluster.live, host, unit, f"--encryption-provider-config={plain}")
        until(lambda: kube_apiserver.ready(cluster.live, host) is None)
        assert_red(
            stage,
            etcd__encrypted_at_rest=f"expected a Secret written through {host.name} to start with k8s:enc:secretbox:v1: in etcd; got ",
            kube_apiserver__unit=f"it has --encryption-provider-config={plain}",
        )
    finally:
        without_flags(cluster.live, host, unit)
        shell(cluster.live, host, 'rm "$1"', plain)

    until(lambda: kube_apiserver.ready(cluster.live, host) is None)
    assert_green(stage, "etcd.encrypted-at-rest")


def test_stopped_schedulers_and_controller_managers_are_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    units = ("kube-scheduler.service", "kube-controller-manager.service")

    with ExitStack() as stopped, ThreadPoolExecutor(6) as pool:
        for context in [stage.stopped(host, unit) for host in cluster.inventory.on("controller") for unit in units]:
            stopped.enter_context(context)
        of_the_verb = pool.submit(cluster.inv, "smoke", "--check", "scheduler.leader", "--json", "-")
        assert_red(
            stage,
            scheduler__assigns="to get a node; got after",
            scheduler__leader="expected",
            controllers__leader="to renew the lease within 15 s; got after 15 s: it was renewed",
            kube_scheduler__unit="it is inactive",
            kube_controller_manager__unit="it is inactive",
        )
        done = of_the_verb.result()
        afresh(cluster.live, "kube-controller-manager")

    assert done.returncode == 1
    (check,) = json.loads(done.stdout)["checks"]
    assert check["status"] == "failed"
    assert "look at journalctl -u kube-scheduler.service -n 10 on controller-" in check["reason"]
    assert "Stopped kube-scheduler.service" in check["evidence"]
    until(lambda: all(holder_renews(cluster.live, name) is None for name in ("kube-scheduler", "kube-controller-manager")))
    assert_green(stage, "scheduler.assigns", "scheduler.leader", "controllers.leader")


def test_a_controller_that_is_switched_off_is_seen(cluster: LabCluster) -> None:
    unit, hosts = "kube-controller-manager.service", cluster.inventory.on("controller")

    def restarted(change: Callable[[Host], None]) -> None:
        each(hosts, change, 3)
        afresh(cluster.live, "kube-controller-manager")

    try:
        restarted(lambda host: with_flags(cluster.live, host, unit, "--controllers=*,-serviceaccount-controller"))
        with fresh(cluster) as on:  # its namespace must be younger than the controllers
            assert_red(
                on,
                controllers__serviceaccount="to get a ServiceAccount `default`; got after 10 s: 404",
                kube_controller_manager__unit="it has --controllers=*,-serviceaccount-controller",
            )
            until(lambda: holder_renews(cluster.live, "kube-controller-manager") is None)
            assert_green(on, "controllers.leader")
    finally:
        restarted(lambda host: without_flags(cluster.live, host, unit))


def test_a_daemon_that_dies_during_the_run_is_seen(cluster: LabCluster) -> None:
    host, unit = cluster.controller(1), "kube-scheduler.service"

    with fresh(cluster) as on:
        cluster.live.run(host, "systemctl", "kill", "--signal=KILL", unit)
        until(
            lambda: (
                "NRestarts=0" not in (shown := cluster.live.run(host, "systemctl", "show", "-p", "NRestarts,ActiveState", unit))
                and "=active" in shown
            )
        )

        assert_red(on, kube_scheduler__unit="it has restarted since the run began")
