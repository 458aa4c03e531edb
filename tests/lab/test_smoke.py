"""Every smoke check passes on a cluster that is well, and turns red when the thing that it proves is broken."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from hardway.components import etcd, kube_apiserver, kube_scheduler
from hardway.components.lease import holder_renews
from hardway.inventory import Host
from hardway.remote.fanout import each
from hardway.smoke import ClusterStage, Kubectl
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import afresh, assert_green, assert_red, fresh, led_again, passes, shell, until, with_flags, without_flags

pytestmark = pytest.mark.lab

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


def test_a_certificate_that_is_not_the_one_in_state_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    """A valid one of the same authority, so that only its serial number tells."""
    host, port = cluster.controller(2), kube_scheduler.PORT
    path, other = (f"/etc/kubernetes/{name}/serving.pem" for name in ("kube-scheduler", "kube-controller-manager"))
    serials = [cluster.live.issued(f"{name}-serving", host) for name in ("kube-scheduler", "kube-controller-manager")]

    def shows(serial: int) -> bool:
        return cluster.live.shown(host, port, loopback=True).serial == serial

    script = 'cp -p "$1" "$1.kept"; install -o root -g kube-scheduler -m 0640 "$2" "$1.new"; mv "$1.new" "$1"'
    shell(cluster.live, host, script, path, other)
    try:
        until(lambda: shows(serials[1]))
        assert_red(stage, certs__served="expected kube-scheduler-serving on controller-2 to be ")
    finally:
        shell(cluster.live, host, 'mv "$1.kept" "$1"', path)

    until(lambda: shows(serials[0]))
    assert_green(stage, "certs.served")


def test_an_api_server_that_knows_no_bounds_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    """It stores Secrets as they are, writes them into its audit log, lets everybody in and nodes do what they like."""
    host, unit = cluster.controller(2), "kube-apiserver.service"
    # `identity` to the first place: what was last among the providers comes before the first.
    script = """
    cd /run; umask 027; mkdir sabotage; chgrp kube-apiserver sabotage
    sed '/identity:/d; s/^    providers:/&\\n      - identity: {}/' "$1/encryption.yaml" >sabotage/encryption.yaml
    sed '/conditions:/,$d' "$1/authentication.yaml" >sabotage/authentication.yaml
    printf '%s\\n' 'apiVersion: audit.k8s.io/v1' 'kind: Policy' 'rules: [{level: RequestResponse}]' >sabotage/audit-policy.yaml
    chgrp kube-apiserver sabotage/*
    """
    shell(cluster.live, host, script, "/etc/kubernetes/kube-apiserver")
    flags = (
        "--encryption-provider-config=/run/sabotage/encryption.yaml",
        "--authentication-config=/run/sabotage/authentication.yaml",
        "--audit-policy-file=/run/sabotage/audit-policy.yaml",
        "--authorization-mode=AlwaysAllow",
    )

    try:
        with_flags(cluster.live, host, unit, *flags, without="enable-admission-plugins authorization-mode")
        until(lambda: kube_apiserver.ready(cluster.live, host) is None)
        assert_red(
            stage,
            etcd__encrypted_at_rest=f"expected a Secret written through {host.name} to start with k8s:enc:secretbox:v1: in etcd; got ",
            kube_apiserver__unit="it has --audit-policy-file=/run/sabotage/audit-policy.yaml, it has --authentication-config=",
            apiserver__refuses_strangers="/api is answered to nobody: 200",
            apiserver__node_restriction=f"expected 403 on {host.name} when a node changes a label of another node; got 200",
            apiserver__audit="expected the Lease at level Request, with the object that was sent; got level RequestResponse",
        )
    finally:
        without_flags(cluster.live, host, unit)
        shell(cluster.live, host, "rm -r /run/sabotage")

    until(lambda: kube_apiserver.ready(cluster.live, host) is None)
    assert_green(stage, "etcd.encrypted-at-rest", "apiserver.refuses-strangers", "apiserver.node-restriction", "apiserver.audit")


def test_a_member_that_lets_anybody_in_is_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    leader = etcd.leader(cluster.live)
    host, unit = next(host for host in cluster.inventory.on("controller") if host != leader), "etcd.service"

    try:
        with_flags(cluster.live, host, unit, without="trusted-ca-file client-cert-auth", killed=True)
        assert_red(stage, etcd__refuses_strangers=f"expected etcd on {host.name}:2379 to refuse no certificate; got it answers")
    finally:
        without_flags(cluster.live, host, unit, killed=True)

    until(lambda: etcd.member_healthy(cluster.live, host) is None)
    assert_green(stage, "etcd.refuses-strangers")


def test_another_client_of_etcd_is_seen_and_one_that_could_be(cluster: LabCluster, stage: ClusterStage) -> None:
    host = cluster.controller(1)
    key = "/etc/kubernetes/kube-apiserver/etcd-client.pem"
    stranger = f"use IO::Socket::INET; my $s = IO::Socket::INET->new('{host.address}:2379') or die $!; sleep 60"

    cluster.live.run(host, "systemd-run", "--quiet", "--unit=sabotage", "perl", "-e", stranger)
    try:
        until(lambda: ":2379" in cluster.live.run(host, "sh", "-c", "ss -Htnp state established | grep perl; :"))
        who = "no client of etcd on controller-1 but kube-apiserver and etcd itself; got perl"
        assert_red(stage, apiserver__only_client_of_etcd=who)
    finally:
        cluster.live.run(host, "systemctl", "stop", "sabotage.service")

    shell(cluster.live, host, 'chmod 0644 "$1"', key)
    try:
        assert_red(
            stage, apiserver__only_client_of_etcd=f"expected {key} on controller-1 to be readable by kube-apiserver alone; got etcd, "
        )
    finally:
        shell(cluster.live, host, 'chmod 0640 "$1"', key)

    assert_green(stage, "apiserver.only-client-of-etcd")


def test_schedulers_that_place_pods_badly_are_seen(cluster: LabCluster, stage: ClusterStage) -> None:
    hosts, unit, config = cluster.inventory.on("controller"), "kube-scheduler.service", "/run/kube-scheduler.yaml"
    profile = """
profiles:
  - schedulerName: default-scheduler
    plugins:
      filter: {disabled: [{name: TaintToleration}]}
      score: {disabled: [{name: NodeResourcesBalancedAllocation}]}
    pluginConfig:
      - name: NodeResourcesFit
        args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}, {name: memory, weight: 1}]}}
"""

    def change(host: Host) -> None:
        script = '{ cat /etc/kubernetes/kube-scheduler/config.yaml; printf %s "$1"; } >"$2"; chmod 0644 "$2"'
        shell(cluster.live, host, script, profile, config)
        with_flags(cluster.live, host, unit, f"--config={config}")

    def repair(host: Host) -> None:
        without_flags(cluster.live, host, unit)
        shell(cluster.live, host, 'rm "$1"', config)

    try:
        each(hosts, change, 3)
        until(lambda: holder_renews(cluster.live, "kube-scheduler") is None)
        assert_red(
            stage,
            scheduler__filters="to stay without a node: untolerated taint; got it is on",
            scheduler__scores="got it is on hardway-smoke-loaded-",
        )
    finally:
        each(hosts, repair, 3)

    until(lambda: holder_renews(cluster.live, "kube-scheduler") is None)
    assert_green(stage, "scheduler.filters", "scheduler.scores")


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


def test_controllers_that_are_switched_off_are_seen(cluster: LabCluster) -> None:
    unit, hosts = "kube-controller-manager.service", cluster.inventory.on("controller")
    without = ("serviceaccount", "node-lifecycle", "replicationcontroller", "job", "endpointslice")
    flag = f"--controllers=*,{','.join(f'-{name}-controller' for name in without)}"

    def restarted(change: Callable[[Host], None]) -> None:
        each(hosts, change, 3)
        afresh(cluster.live, "kube-controller-manager")

    try:
        restarted(lambda host: with_flags(cluster.live, host, unit, flag))
        with fresh(cluster) as on:  # its namespace must be younger than the controllers
            assert_red(
                on,
                controllers__serviceaccount="to get a ServiceAccount `default`; got after 10 s: 404",
                controllers__node="to lose the taint of a new one; got after 15 s: node.kubernetes.io/not-ready is still there",
                controllers__replication="to have 2 Pods; got after 15 s: it has none",
                controllers__job="to have 2 Pods; got after 15 s: it has none",
                controllers__endpointslice="to have 192.0.2.1, 192.0.2.2 ready; got after 15 s: no endpoints",
                kube_controller_manager__unit=f"it has {flag}",
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
    led_again(cluster.live, "kube-scheduler", host)
