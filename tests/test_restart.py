"""A restart goes over the hosts as a push does: one at a time, the leader last, and not past one that does not come up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from hardway import restart as verb
from hardway.components import ALL
from hardway.desired import Component, Gate, Lead, Roll
from hardway.errors import Mistake
from hardway.inventory import Host, load
from hardway.observed import Facts, Observed, UnitState
from hardway.push import roll
from hardway.remote.cluster import Cluster
from hardway.remote.protocol import Apply
from hardway.restart import HOW, named, restart

INVENTORY = load(Path(__file__).parent.parent / "inventory.yaml")
CONTROLLERS = INVENTORY.on("controller")
FACTS = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="b", clock=0, disk_free=1 << 40, memory=1 << 30)
UP = UnitState(active="active", sub="running", enabled=True, invocation="1", restarts=0)


@dataclasses.dataclass
class FakeCluster:
    seen: list[str] = dataclasses.field(default_factory=list)
    died: bool = False
    inventory: Any = INVENTORY

    def machine(self, host: Host) -> FakeMachine:
        return FakeMachine(host.name, self)

    @contextmanager
    def lock(self, hosts: tuple[Host, ...], doing: str) -> Iterator[None]:
        self.seen.append(f"lock {' '.join(host.name for host in hosts)} for {doing}")
        yield

    @contextmanager
    def paused(self, hosts: tuple[Host, ...], unit: str) -> Iterator[frozenset[Host]]:  # noqa: ARG002 - of a Cluster
        yield frozenset(hosts)

    def run(self, host: Host, *argv: str) -> str:  # noqa: ARG002 - of systemd, how often it has restarted the unit
        return "0"


@dataclasses.dataclass
class FakeMachine:
    name: str
    cluster: FakeCluster

    def observe(self, paths: frozenset[object], units: tuple[str, ...]) -> Observed:
        assert paths == frozenset()
        return Observed(facts=FACTS, units=dict.fromkeys(units, UP), died=self.cluster.died)

    def apply(self, change: Apply) -> None:
        assert (change.moves, change.removals) == ((), ())
        self.cluster.seen += [f"{self.name} {action.verb} {action.unit}" for action in change.actions]

    def settle(self, units: tuple[str, ...], **_: int) -> None:
        self.cluster.seen.append(f"{self.name} settled {' '.join(units)}")

    def retract(self, unit: str) -> None:
        self.cluster.seen.append(f"{self.name} retracts {unit}")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def over(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, name: str = "etcd", ask: Any = lambda *_: None, **roll_: Any) -> list[str]:
    """Restart it on all controllers; which hosts it took, and what was done there."""
    gates = (Gate(name="open", ask=ask, within=0),)
    one = Component(name=name, on=("controller",), roll=Roll(gates=gates, **roll_))
    monkeypatch.setattr(roll, "ALL", (one,))
    told: list[str] = []
    took = restart(cast("Cluster", cluster), one, CONTROLLERS, told.append)
    return [host.name for host in took]


def test_each_is_settled_before_the_next(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    over(cluster, monkeypatch)

    expected = [
        line
        for n in (1, 2, 3)
        for line in (
            f"lock controller-{n} for push",
            f"controller-{n} restart etcd.service",
            f"controller-{n} settled etcd.service",
        )
    ]
    assert cluster.seen == expected


def test_workers_go_one_at_a_time_though_a_push_takes_several(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert over(cluster, monkeypatch, "kubelet", at_once=4) == ["controller-1", "controller-2", "controller-3"]
    assert [line for line in cluster.seen if "lock" in line] == [f"lock controller-{n} for push" for n in (1, 2, 3)]


def test_who_leads_goes_last_and_hands_over_first(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    lead = Lead(
        of=lambda _: CONTROLLERS[0],
        heir=lambda _, host: CONTROLLERS[1] if host == CONTROLLERS[0] else None,
        hand_over=lambda _, host, to: cluster.seen.append(f"{host.name} hands over to {to.name}"),
        asked_by="etcd",
    )

    assert over(cluster, monkeypatch, lead=lead) == ["controller-2", "controller-3", "controller-1"]
    assert cluster.seen.index("controller-1 hands over to controller-2") < cluster.seen.index("controller-1 restart etcd.service")


def test_a_balancer_is_reloaded(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    over(cluster, monkeypatch, "kube-apiserver-lb")

    assert "controller-1 reload kube-apiserver-lb.service" in cluster.seen


def test_one_that_does_not_come_up_ends_it(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(live: Any, host: Host) -> str | None:
        return "it is dead" if f"{host.name} restart etcd.service" in live.seen else None

    with pytest.raises(Mistake, match="it is dead"):
        over(cluster, monkeypatch, ask=ask)
    assert not [line for line in cluster.seen if line.startswith(("controller-2", "controller-3"))]


def test_none_is_restarted_while_another_is_not_well(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Mistake, match="so no other is restarted"):
        over(cluster, monkeypatch, ask=lambda _, host: "it is ill" if host.name == "controller-3" else None)
    assert not [line for line in cluster.seen if "restart" in line]


def test_what_a_push_has_left_half_way_is_not_restarted(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.died = True

    with pytest.raises(Mistake, match="a push died there"):
        over(cluster, monkeypatch)
    assert cluster.seen == []


def test_every_name_is_a_component_and_another_has_a_near_one() -> None:
    assert {named(name).name for name in HOW} == set(HOW) <= {one.name for one in ALL}
    with pytest.raises(Mistake, match="did you mean kube-apiserver"):
        named("kube-apisrver")
    with pytest.raises(Mistake, match="there is no coredns that runs"):
        named("coredns")


def test_a_host_without_it_is_a_mistake(cluster: FakeCluster) -> None:
    with pytest.raises(Mistake, match="kubelet does not run there"):
        verb.restart(cast("Cluster", cluster), named("kubelet"), (), print)
