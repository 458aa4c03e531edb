"""A survey tells of every host what stands against a push, also of those that do not answer, and then stops."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory, load
from hardway.observed import Facts, Ground, Observed
from hardway.pki import declared
from hardway.pki.credentials import Credentials, placeholders
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
