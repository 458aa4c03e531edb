"""Who leads is told by a Lease that is renewed, not by a name in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from hardway.components import kube_scheduler
from hardway.desired import Answer, Stage
from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.smoke.checks.leader import leads
from hardway.smoke.verdict import Failed

HOST = Host(name="controller-1", address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"}))
INVENTORY = Inventory(
    cluster="test",
    hosts=(HOST,),
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="none", address=HOST.address),
)


@dataclass
class FakeStage:
    """Answers with one Lease after the other; the last one stays."""

    leases: list[tuple[str, int] | None]  # holder, second of its renewal
    inventory: Inventory = INVENTORY
    asked: list[str] = field(default_factory=list)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        del host
        self.asked.append(path)
        now = self.leases.pop(0) if len(self.leases) > 1 else self.leases[0]
        if now is None:
            return Answer(status=404, body=b"{}")
        spec = {
            "holderIdentity": now[0],
            "renewTime": f"2026-01-01T00:00:{now[1]:02}.000000Z",
            "leaseDurationSeconds": 15,
            "leaseTransitions": 3,
        }
        return Answer(status=200, body=json.dumps({"spec": spec}).encode())

    def wait(self, ask: Callable[[], str | None], within: float) -> None:
        answers = [ask() for _ in range(3)]
        if None not in answers:
            raise Mistake.at("", f"after {within:.0f} s: {answers[-1]}")


def judge(*leases: tuple[str, int] | None) -> str:
    return leads(kube_scheduler.COMPONENT, cast("Stage", FakeStage(list(leases))))


def test_a_holder_that_renews_passes() -> None:
    evidence = judge(("controller-1_a", 1), ("controller-1_a", 1), ("controller-1_a", 3))

    assert "held by controller-1_a, renewed at 00:00:01.000000 and 00:00:03.000000, good for 15 s, changed hands 3 times" in evidence


@pytest.mark.parametrize(
    ("leases", "reason"),
    [
        ([None], "kube-scheduler's lease to have a holder"),
        ([("", 1)], "kube-scheduler's lease to have a holder"),
        ([("stranger_a", 1), ("stranger_a", 3)], "the holder to run on one of controller-1; got stranger_a"),
        ([("controller-1_a", 1)], "controller-1_a to renew the lease within 15 s; got after 15 s"),
        ([("controller-1_a", 1), ("controller-1_b", 3)], "controller-1_a to stay the holder; got controller-1_b is it now"),
    ],
    ids=["no lease", "given back", "on no host of ours", "not renewed", "changes hands"],
)
def test_a_lease_without_a_leader_fails(leases: list[tuple[str, int] | None], reason: str) -> None:
    with pytest.raises(Failed) as failed:
        judge(*leases)

    assert reason in str(failed.value)
