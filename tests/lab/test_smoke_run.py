"""The verb `smoke` on a real cluster: its report, and what it leaves behind when it is cut short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from hardway.pki.pair import throwaway
from hardway.remote.cluster import Cluster
from hardway.smoke.checks import extension
from hardway.smoke.removal import LABEL, NAMESPACES, NODES, WEBHOOKS
from hardway.smoke.stage import unique
from hardway.verbs import smoke as verb
from hardway.verbs.program.console import Console
from hardway.verbs.program.session import Session
from tests.lab.conftest import ROOT, LabCluster
from tests.lab.sabotage import until

pytestmark = pytest.mark.lab

SELECTOR = "labelSelector=" + "%2C".join(f"{key}%3D{value}" for key, value in LABEL.items())


def left(live: Cluster) -> list[str]:
    """What carries the label of smoke, and what is kept in etcd beside Kubernetes."""
    items = [item for path in (NAMESPACES, NODES, WEBHOOKS) for item in live.api(f"{path}?{SELECTOR}").json()["items"]]
    query = {"key": "L2hhcmR3YXkv", "range_end": "L2hhcmR3YXkw", "keys_only": True}  # what begins with /hardway/
    kept = live.etcd(live.inventory.on("controller")[0], "/v3/kv/range", query).json().get("kvs", [])
    return [item["metadata"]["name"] for item in items] + [pair["key"] for pair in kept]


def begun(cluster: LabCluster) -> subprocess.Popen[bytes]:
    """A run of the verb that has made its namespace."""
    argv = [str(ROOT / "inv"), "--inventory", str(cluster.path), "smoke"]
    run = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: bool(left(cluster.live)))
    return run


def test_an_interrupted_run_leaves_nothing(cluster: LabCluster) -> None:
    run = begun(cluster)

    os.killpg(run.pid, signal.SIGINT)

    assert run.wait(120) == 130
    assert left(cluster.live) == []


def test_cleanup_removes_what_a_killed_run_has_left(cluster: LabCluster) -> None:
    run = begun(cluster)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(120)

    young = cluster.inv("smoke", "--cleanup")
    done = cluster.inv("smoke", "--cleanup", "--all")

    assert young.returncode == done.returncode == 0
    assert "kept namespace/hardway-smoke-" in young.stdout
    assert "removed" not in young.stdout
    assert "removed namespace/hardway-smoke-" in done.stdout
    until(lambda: left(cluster.live) == [])  # what it wrote to etcd goes with its lease


def test_cleanup_removes_a_webhook_that_a_killed_run_has_registered(cluster: LabCluster) -> None:
    stage = verb._stage(Session(inventory=cluster.inventory, console=Console()), cluster.live, print)
    name = unique("webhook")
    extension._register(stage, name, throwaway("nobody", now=datetime.now(UTC), lifetime=timedelta(hours=1))[0])  # and never put back

    done = cluster.inv("smoke", "--cleanup", "--all")

    assert f"removed mutatingwebhookconfiguration/{name}" in done.stdout
    assert cluster.live.api(f"{WEBHOOKS}/{name}").status == 404
    assert left(cluster.live) == []


def test_the_verb_writes_its_report_in_every_form(cluster: LabCluster, tmp_path: Path) -> None:
    done = cluster.inv(
        "smoke", "--component", "kube-apiserver-lb", "--json", f"{tmp_path}/report.json", "--junit", f"{tmp_path}/report.xml"
    )

    assert done.returncode == 0
    document: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert {key: type(value) for key, value in document.items()} == {
        "schema": int,
        "cluster": str,
        "started": str,
        "seconds": float,
        "checks": list,
    }
    (check,) = document["checks"]
    assert (check["name"], check["status"]) == ("kube-apiserver-lb.unit", "passed")
    assert "lb-1: " in check["evidence"]
    suite = ET.fromstring((tmp_path / "report.xml").read_text())[0]  # noqa: S314 - our own
    assert [case.get("name") for case in suite] == ["kube-apiserver-lb.unit"]
