"""A worker leaves in an order in which every step can be the last of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hardway import pod_ranges
from hardway.desired import Answer
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.leaving import reset, worker
from hardway.leaving.worker import Leaving
from hardway.pki import declared, issue
from hardway.pki.credentials import Credentials, credentials
from hardway.remote.cluster import Cluster
from hardway.state import State

ROOT = Path(__file__).parents[2]
SHIPPED = load(ROOT / "inventory.yaml")
WORKERS = SHIPPED.on("worker")
NODE = "/api/v1/nodes/worker-1"
LOOKED = "kit\nfile\t/etc/systemd/system/kubelet.service\nfile\t/etc/kubernetes/kubelet/ca.crt\ntrace\tdirectory /var/lib/kubelet\n"


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, Credentials]:
    state = State(tmp_path_factory.mktemp("state") / "c")
    declarations = declared.load(ROOT / "certs")
    issue.ensure(declarations, SHIPPED, state, datetime.now(UTC))
    pod_ranges.keep(state, pod_ranges.allot(SHIPPED, {"worker-9": IPv4Network("10.200.9.0/24")}))
    return state, credentials(declarations, SHIPPED, state)


@dataclass
class FakeMachine:
    name: str
    cluster: FakeCluster

    def run(self, *argv: str) -> str:
        if self.name in self.cluster.silent:
            raise Mistake.at(self.name, "does not answer")
        if "look" in argv:
            return self.cluster.looked
        self.cluster.seen.append(f"{self.name} reset")
        return "left\tdirectory /var/lib/kubelet: busy\n" if self.cluster.broken else ""

    def read(self, paths: Sequence[PurePosixPath]) -> dict[PurePosixPath, str]:
        return dict.fromkeys(paths, self.cluster.bundle)


@dataclass
class FakeCluster:
    credentials: Credentials
    inventory: Inventory = SHIPPED
    seen: list[str] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=lambda: {"worker-1": "True"})  # its condition Ready
    pods: list[Mapping[str, Any]] = field(default_factory=list)
    silent: tuple[str, ...] = ()
    looked: str = LOOKED
    bundle: str = ""
    broken: bool = False

    def machine(self, host: Host) -> FakeMachine:
        return FakeMachine(host.name, self)

    @contextmanager
    def lock(self, hosts: Sequence[Host], doing: str) -> Iterator[dict[str, SimpleNamespace]]:
        self.seen.append(f"lock {' '.join(host.name for host in hosts)} for {doing}")
        yield {host.name: SimpleNamespace(check=lambda: None) for host in hosts}

    def api(self, path: str) -> Answer:
        if path.startswith("/api/v1/pods?"):
            return Answer(status=200, body=json.dumps({"items": self.pods}).encode())
        name = path.rpartition("/")[2]
        found = {"status": {"conditions": [{"type": "Ready", "status": self.nodes.get(name)}]}}
        return Answer(status=200 if name in self.nodes else 404, body=json.dumps(found).encode())

    def request(self, method: str, path: str, body: object = None) -> Answer:  # noqa: ARG002 - as the API has it
        self.seen.append(f"{method} {path}")
        name = path.rpartition("/")[2]
        there = name in self.nodes
        if method == "DELETE":
            self.nodes.pop(name, None)
        if method == "POST":
            self.pods = []
            return Answer(status=201, body=b"{}")
        return Answer(status=200 if there else 404, body=b"{}")


def leave(cluster: FakeCluster, state: State, name: str = "worker-1", *, force: bool = False, keep_host: bool = False) -> list[str]:
    told: list[str] = []
    worker.remove(cast("Cluster", cluster), state, Leaving(name=name, within=30, force=force, keep_host=keep_host), told.append)
    return told


@pytest.fixture
def state(issued: tuple[State, Credentials], tmp_path: Path) -> State:
    """A copy that may be written to."""
    copy = State(tmp_path / "c")
    for name in issued[0].glob("**/*"):
        copy.write(name, issued[0].read(name))
    return copy


@pytest.fixture
def cluster(issued: tuple[State, Credentials]) -> FakeCluster:
    return FakeCluster(issued[1], bundle=issued[1].trusts["kubernetes"].bundle)


def test_a_host_is_reset_before_its_node_is_deleted_or_its_kubelet_would_make_another(cluster: FakeCluster, state: State) -> None:
    told = leave(cluster, state)

    assert cluster.seen == [f"PATCH {NODE}", "lock worker-1 for reset", "worker-1 reset", f"DELETE {NODE}"]
    assert state.glob("pki/*/*@worker-1.pem") == ()
    assert state.glob("pki/*/*@worker-2.pem") != ()
    assert set(pod_ranges.kept(state)) == {"worker-2", "worker-9"}
    assert told[-1].endswith(", 10.200.0.0/24 is free again")


def test_a_removal_that_was_cut_short_goes_on(cluster: FakeCluster, state: State) -> None:
    cluster.broken = True
    with pytest.raises(Mistake, match="busy"):
        leave(cluster, state)
    assert "worker-1" in cluster.nodes
    assert "worker-1" in pod_ranges.kept(state)

    cluster.broken, cluster.looked = False, ""
    leave(cluster, state)
    assert "worker-1" not in cluster.nodes

    assert leave(cluster, state) == ["worker-1: its Node is gone"]  # and once more, when all is done


def test_what_would_be_lost_stops_it_before_anything_changes(cluster: FakeCluster, state: State) -> None:
    metadata = {"namespace": "default", "name": "alone", "uid": "1"}
    cluster.pods = [{"metadata": metadata, "spec": {}}]

    with pytest.raises(Mistake, match="nothing would make it again"):
        leave(cluster, state)
    assert cluster.seen == []

    leave(cluster, state, force=True)
    assert "POST /api/v1/namespaces/default/pods/alone/eviction" in cluster.seen


def test_a_host_that_does_not_answer_is_kept_only_if_asked(cluster: FakeCluster, state: State) -> None:
    cluster.silent, cluster.nodes = ("worker-1",), {"worker-1": "Unknown"}

    with pytest.raises(Mistake, match="does not answer; bring it back, or add --keep-host"):
        leave(cluster, state)
    assert cluster.seen == []

    leave(cluster, state, keep_host=True)
    assert cluster.seen == [f"PATCH {NODE}", f"DELETE {NODE}"]


def test_a_host_that_trusts_another_authority_is_not_reset(cluster: FakeCluster, state: State, tmp_path: Path) -> None:
    other = State(tmp_path / "other")
    declarations = declared.load(ROOT / "certs")
    issue.ensure(declarations, SHIPPED, other, datetime.now(UTC))
    cluster.bundle = credentials(declarations, SHIPPED, other).trusts["kubernetes"].bundle

    with pytest.raises(Mistake, match=r"worker-1: it trusts kubernetes-\w+ \(/etc/kubernetes/kubelet/ca.crt\), unknown to this state/"):
        leave(cluster, state)
    assert cluster.seen == []


def test_one_that_has_left_the_inventory_is_known_by_its_range_or_node(cluster: FakeCluster, state: State) -> None:
    with pytest.raises(Mistake, match="worker-9: it has left the inventory"):
        leave(cluster, state, "worker-9")
    leave(cluster, state, "worker-9", keep_host=True)

    assert set(pod_ranges.kept(state)) == {"worker-1", "worker-2"}
    with pytest.raises(Mistake, match="worker-9: is no worker of this cluster; its workers are worker-1, worker-2"):
        leave(cluster, state, "worker-9", keep_host=True)


def test_what_is_no_worker_or_not_a_worker_alone_stays(cluster: FakeCluster, state: State) -> None:
    with pytest.raises(Mistake, match="controller-1: is no worker"):
        leave(cluster, state, "controller-1")
    both = tuple(replace(h, roles=h.roles | {"worker"}) if h.name == "controller-1" else h for h in SHIPPED.hosts)
    cluster.inventory = replace(SHIPPED, hosts=both)
    with pytest.raises(Mistake, match="controller-1: is controller too, and a host leaves as a whole"):
        leave(cluster, state, "controller-1")


def test_a_member_of_etcd_is_not_reset_while_others_may_run(cluster: FakeCluster) -> None:
    cluster.looked = "kit\nfile\t/etc/systemd/system/etcd.service\n"
    one, *_ = controllers = SHIPPED.on("controller")

    with pytest.raises(Mistake, match="controller-1: it is a member of etcd, as controller-2, controller-3 may be"):
        reset.survey(cast("Cluster", cluster), [one])
    assert len(reset.survey(cast("Cluster", cluster), controllers).plans) == 3


def test_of_all_hosts_the_workers_go_first_and_one_that_fails_or_is_silent_holds_up_none(cluster: FakeCluster) -> None:
    cluster.silent, told = ("worker-2",), list[str]()
    found = reset.survey(cast("Cluster", cluster), SHIPPED.hosts)
    assert [finding.where for finding in found.silent] == ["worker-2"]

    reset.reset(cast("Cluster", cluster), found, told.append)
    resets = [line for line in cluster.seen if line.endswith(" reset") and not line.startswith("lock")]
    assert resets[0] == "worker-1 reset"
    assert sorted(resets[1:]) == [f"{name} reset" for name in ("controller-1", "controller-2", "controller-3", "lb-1")]

    cluster.broken = True
    with pytest.raises(Mistake) as failed:
        reset.reset(cast("Cluster", cluster), found, told.append)
    assert len(failed.value.findings) == 5
