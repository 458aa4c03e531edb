"""The checks that stop things pass on a cluster that is well, and turn red when it survives less than it should."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from hardway.components import etcd
from hardway.inventory import Host
from hardway.smoke import outage
from hardway.smoke.checks.loss import LEADING
from tests.lab.conftest import ROOT, LabCluster
from tests.lab.sabotage import assert_green, assert_red, fresh, led_again, passes, shell, until

pytestmark = pytest.mark.lab

CONFIG = "/etc/kubernetes/kube-apiserver-lb/haproxy.cfg"


@pytest.mark.full
def test_a_cluster_that_is_well_survives_every_loss(cluster: LabCluster) -> None:
    passes(cluster, "--disruptive")
    assert cluster.inv("plan").returncode == 0


def test_a_balancer_that_does_not_look_is_seen(cluster: LabCluster) -> None:
    host = cluster.inventory.on("loadbalancer")[0]
    blind = """
    cp -p "$1" /run/kept.cfg
    sed -i '/httpchk/d; /http-check/d; /redispatch/d; s/retries 3/retries 0/; s/default-server .*/default-server init-addr none/' "$1"
    systemctl reload kube-apiserver-lb
    """
    shell(cluster.live, host, blind, CONFIG)
    try:
        with fresh(cluster) as stage:
            reason = "expected new connections to succeed 3 s after the API server on controller-3 is dead; got"
            assert_red(stage, lb__drops_dead_backend=reason)
    finally:
        shell(cluster.live, host, 'mv /run/kept.cfg "$1"; systemctl reload kube-apiserver-lb', CONFIG)
    assert cluster.inv("plan").returncode == 0


@pytest.mark.full
def test_a_cluster_that_loses_two_controllers_is_seen(cluster: LabCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    controllers = cluster.inventory.on("controller")
    with fresh(cluster) as stage:
        real = stage.stopped

        @contextmanager
        def both(host: Host, *units: str, killed: bool = False) -> Iterator[None]:
            if not killed:  # a leadership is moved
                with real(host, *units):
                    yield
                return
            other = next(one for one in controllers if one != host)
            with real(other, *units, killed=True), real(host, *units, killed=True):
                yield

        monkeypatch.setattr(stage, "stopped", both)
        assert_red(
            stage,
            etcd__survives_member_loss="expected another member to lead; got",
            cluster__survives_controller_loss=f"expected requests through {cluster.inventory.server} to be answered again; got",
        )
        monkeypatch.undo()
        until(lambda: all(etcd.member_healthy(cluster.live, host) is None for host in controllers))
        assert_green(stage, "etcd.quorum", "apiserver.ready", "scheduler.assigns")
    assert cluster.inv("plan").returncode == 0


@pytest.mark.full
def test_a_leader_that_nobody_follows_is_seen(cluster: LabCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    controllers = cluster.inventory.on("controller")
    with fresh(cluster) as stage:
        real = stage.stopped

        @contextmanager
        def every(host: Host, *units: str, killed: bool = False) -> Iterator[None]:
            with ExitStack() as out:
                for one in sorted(controllers, key=lambda one: one == host):  # the leader last, or another leads for a moment
                    out.enter_context(real(one, *units, killed=killed))
                yield

        monkeypatch.setattr(stage, "stopped", every)
        assert_red(
            stage,
            controllers__leader_takeover="to take the lease and renew it; got",
            scheduler__leader_takeover="to take the lease and renew it; got",
        )
        monkeypatch.undo()
        until(lambda: all(gate.ask(cluster.live, host) is None for host in controllers for one in LEADING for gate in one.roll.gates))
    assert cluster.inv("plan").returncode == 0


def test_a_host_starts_by_itself_what_a_killed_run_has_stopped(cluster: LabCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    host, unit = cluster.controller(3), "kube-scheduler.service"
    monkeypatch.setattr(outage, "DEAD_MAN", 2)

    outage.Outage(host=host, units=(unit,), killed=True).begin(cluster.live.run)  # and nobody ends it
    stopped = not runs(cluster, host, unit)

    until(lambda: runs(cluster, host, unit))
    led_again(cluster.live, "kube-scheduler", host)
    assert stopped
    assert cluster.inv("plan").returncode == 0


@pytest.mark.full
def test_an_interrupted_run_starts_again_what_it_has_stopped(cluster: LabCluster) -> None:
    host, unit = cluster.controller(3), "kube-apiserver.service"
    argv = [str(ROOT / "inv"), "--inventory", str(cluster.path), "smoke", "--disruptive", "--check", "lb.drops-dead-backend"]
    run = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: not runs(cluster, host, unit))

    os.killpg(run.pid, signal.SIGINT)

    assert run.wait(120) == 130
    assert runs(cluster, host, unit)
    assert cluster.live.run(host, "systemctl", "list-timers", "--all", "--no-legend", "hardway-smoke-*") == ""
    assert cluster.inv("plan").returncode == 0


def runs(cluster: LabCluster, host: Host, unit: str) -> bool:
    return cluster.live.run(host, "systemctl", "show", "--property=ActiveState", unit) == "ActiveState=active\n"
