"""A status of a real cluster: one command a host, what runs and who leads, and what is down without hiding the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from hardway.components import installed
from hardway.status import status
from hardway.verbs.program.console import Console
from hardway.verbs.program.running import programs, running
from hardway.verbs.program.session import Session
from tests.lab.conftest import LabCluster

pytestmark = pytest.mark.lab


def test_it_costs_one_connection_and_one_command_a_host_and_finds_all_well(cluster: LabCluster) -> None:
    session = Session(inventory=cluster.inventory, console=Console())
    with running(session, cluster.state, print, issuing=False) as live:
        found = status(live, programs(session, print, bring=False), (), datetime.now(UTC), cluster.inventory.hosts)
        machines = [live.machine(host) for host in cluster.inventory.hosts]

    assert [(machine.connects, machine.execs) for machine in machines] == [(1, 1)] * len(cluster.inventory.hosts)
    assert found.down == ()
    assert found.changes == 0
    daemons = [daemon for one in found.standings for daemon in one.daemons]
    assert len(daemons) == sum(len(installed(cluster.inventory, host)) for host in cluster.inventory.hosts)
    versions = cluster.inventory.versions
    assert {daemon.runs for daemon in daemons} == {versions.kubernetes, versions.etcd, versions.containerd, None}
    assert all(daemon.runs == daemon.declared and daemon.since for daemon in daemons)
    assert set(found.leaders) == {"etcd", "kube-controller-manager", "kube-scheduler"}
    assert None not in found.leaders.values()


def test_programs_get_the_same_as_one_document(cluster: LabCluster) -> None:
    done = cluster.inv("status", "--json", "-")

    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert (found["schema"], found["well"], found["changes"], found["down"]) == (1, True, 0, [])
    assert found["expires"]["days"] > 30
    assert [host["name"] for host in found["hosts"]] == [host.name for host in cluster.inventory.hosts]


def test_what_is_down_and_what_differs_is_shown_beside_all_that_is_well(cluster: LabCluster) -> None:
    stopped, silent = cluster.controller(2), cluster.controller(3)
    cluster.live.run(stopped, "systemctl", "stop", "kube-scheduler.service")
    cluster.live.run(silent, "sh", "-c", "systemctl stop ssh.socket ssh.service 2>/dev/null; true")
    try:
        done = cluster.inv("status")
        document = json.loads(cluster.inv("status", "--json", "-").stdout)
    finally:
        cluster.live.run(silent, "systemctl", "start", "ssh.service")
        cluster.live.run(stopped, "systemctl", "start", "kube-scheduler.service")

    assert done.returncode == 1
    assert "controller-2: kube-scheduler: is inactive (dead)" in done.stdout
    assert "controller-3: does not answer: " in done.stdout
    assert "1 change on controller-2, unknown changes on controller-3; ./inv plan shows them" in done.stdout
    assert "\x1b" not in done.stdout
    answers = {host["name"]: host["answers"] for host in document["hosts"]}
    assert answers == {host.name: host != silent for host in cluster.inventory.hosts}
    well = [daemon for host in document["hosts"] for daemon in host["components"] if daemon["well"]]
    assert len(well) == sum(len(installed(cluster.inventory, host)) for host in cluster.inventory.hosts if host != silent) - 1
