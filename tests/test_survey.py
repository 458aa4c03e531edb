"""A survey tells of every host what stands against a push, also of those that do not answer, and then stops."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from hardway.components import ALL
from hardway.desired import Blob, Manifest
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory, load
from hardway.observed import Facts, Ground, Observed
from hardway.pki import declared
from hardway.pki.credentials import Credentials, placeholders
from hardway.plan import Change
from hardway.push import objects
from hardway.push.survey import look, survey

if TYPE_CHECKING:
    from hardway.remote.cluster import Cluster

ROOT = Path(__file__).parents[1]
INVENTORY = load(ROOT / "inventory.yaml")


@dataclass
class FakeMachine:
    name: str
    execs: list[str]

    def observe(self, *_: object, **__: object) -> Observed:
        self.execs.append(self.name)
        if self.name == "lb-1":
            raise Mistake.at(self.name, "its architecture is riscv64")
        facts = Facts(arch="amd64", cgroup=1, systemd=200, boot_id="b", clock=time.time(), disk_free=0, memory=1 << 34)
        return Observed(facts=facts, ground=Ground(controllers=frozenset({"cpu", "cpuset", "memory", "pids"})))


@dataclass
class FakeCluster:
    execs: list[str] = field(default_factory=list)
    inventory: Inventory = INVENTORY
    credentials: Credentials = field(default_factory=lambda: placeholders(declared.load(ROOT / "certs"), INVENTORY))

    def machine(self, host: Host) -> FakeMachine:
        return FakeMachine(host.name, self.execs)


def test_each_host_is_asked_once_and_one_that_cannot_be_used_hides_nothing_of_the_others() -> None:
    cluster = FakeCluster()
    seen, found = look(cast("Cluster", cluster), INVENTORY.hosts)
    assert sorted(cluster.execs) == sorted(host.name for host in INVENTORY.hosts)
    assert seen.keys() == {host.name for host in INVENTORY.hosts} - {"lb-1"}
    assert {finding.where for finding in found} == {host.name for host in INVENTORY.hosts}


def test_warnings_are_told_once_for_all_hosts_and_errors_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "survey", lambda _: objects.Found(changes=()))
    told: list[Finding] = []
    with pytest.raises(Mistake) as stopped:
        survey(cast("Cluster", FakeCluster()), lambda _: pytest.fail("no binary is brought"), warn=told.append)
    assert [finding.where for finding in told] == ["worker-1, worker-2"]
    assert not any(finding.warning for finding in stopped.value.findings)
    assert {(f.where, f.what) for f in stopped.value.findings} >= {
        ("lb-1", "its architecture is riscv64"),
        ("worker-2", "systemd 200 is too old"),
        ("worker-2", "0 MiB free under /var/lib"),
    }


def test_a_plan_is_shown_of_the_others_where_one_host_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "survey", lambda _: objects.Found(changes=()))
    monkeypatch.setattr(
        importlib.import_module("hardway.push.survey"), "look", looked := Looked()
    )  # the package has a function of its name
    cluster = cast("Cluster", FakeCluster())
    blobs = {name: Blob(sha256="0" * 64, size=1, local=Path()) for component in ALL for name in component.programs}

    found = survey(cluster, lambda _: blobs, partly=True)

    assert [plan.host.name for plan in found.plans] == [host.name for host in INVENTORY.hosts if host.name != "worker-2"]
    assert all(plan.changes for plan in found.plans)
    assert [finding.where for finding in found.wrong] == ["worker-2"]
    with pytest.raises(Mistake, match="worker-2: it is on fire"):
        survey(cluster, lambda _: blobs)
    assert looked.asked == [INVENTORY.hosts] * 2


@dataclass
class Looked:
    """What was seen: nothing is on any host, and one has a fault."""

    asked: list[tuple[Host, ...]] = field(default_factory=list)

    def __call__(self, _: object, hosts: tuple[Host, ...], **__: object) -> tuple[dict[str, Observed], tuple[Finding, ...]]:
        self.asked.append(hosts)
        facts = Facts(arch="amd64", cgroup=1, systemd=252, boot_id="b", clock=time.time(), disk_free=0, memory=1 << 34)
        wrong = tuple(Finding(where="worker-2", what="it is on fire") for host in hosts if host.name == "worker-2")
        return {host.name: Observed(facts=facts) for host in hosts}, wrong


def node(name: str) -> Change:
    manifest = Manifest(object={"kind": "Node", "metadata": {"name": name}})
    return Change(component="kubelet", action="create", what=f"node/{name}", why="", manifest=manifest)


def test_with_some_hosts_go_their_own_nodes_and_with_all_controllers_whatever_else_the_cluster_holds() -> None:
    other = Change(component="coredns", action="apply", what="deployment/coredns", why="", manifest=Manifest(object={"kind": "Deployment"}))
    gone = (Finding(where="node/old", what="is no worker"),)
    everything = objects.Found(changes=(node("worker-1"), node("worker-2"), other), departed=gone)
    workers, controllers = INVENTORY.on("worker"), INVENTORY.on("controller")

    assert everything.among(INVENTORY.hosts, INVENTORY) == everything
    assert everything.among(workers[:1], INVENTORY) == objects.Found(changes=(node("worker-1"),))
    assert everything.among((*workers[:1], *controllers[:2]), INVENTORY).changes == (node("worker-1"),)
    assert everything.among(controllers, INVENTORY).changes == (other,)
    assert everything.among((*workers[1:], *controllers), INVENTORY).changes == (node("worker-2"), other)
