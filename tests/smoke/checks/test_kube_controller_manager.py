"""A node whose Lease nobody renews, or that has another Pod range, is seen."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hardway.smoke.checks.kube_controller_manager import LEASES, node
from hardway.smoke.verdict import Failed
from tests.smoke.checks.node import INVENTORY, FakeNode

THEIRS = replace(INVENTORY, hosts=())
LABELS = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
ITEM = {"metadata": {"name": "n1", "labels": LABELS}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def leases(name: str, *, renewed: bool = True) -> Callable[[str], dict[str, Any]]:
    """The Lease of a node, at each look."""
    numbers = itertools.count(1)

    def look(_: str) -> dict[str, Any]:
        return {"items": [{"metadata": {"name": name}, "spec": {"renewTime": f"t{next(numbers) if renewed else 0}"}}]}

    return look


def test_on_a_cluster_of_others_each_nodes_lease_is_seen_renewed() -> None:
    theirs = FakeNode(inventory=THEIRS, answers={"/api/v1/nodes": {"items": [ITEM]}, LEASES: leases("n1")})

    assert node(theirs.stage) == f"GET {LEASES}: n1 renewed at t1 and t2"
    assert theirs.objects == {}


@pytest.mark.parametrize("found", [leases("n1", renewed=False), leases("other")])
def test_a_lease_that_nobody_renews_fails(found: Callable[[str], dict[str, Any]]) -> None:
    theirs = FakeNode(inventory=THEIRS, answers={"/api/v1/nodes": {"items": [ITEM]}, LEASES: found})

    with pytest.raises(Failed, match="the Lease of each node to be renewed within 40 s; got after 40 s: n1 was last renewed at "):
        node(theirs.stage)


def test_a_node_with_another_range_than_it_was_allotted_fails() -> None:
    other = {"spec": {"podCIDR": "10.200.9.0/24"}}
    ours = FakeNode(answers={"/api/v1/nodes/worker-1": other, LEASES: leases("worker-1")})

    with pytest.raises(Failed, match=r"to have the Pod range 10\.200\.1\.0/24, which it was allotted; got 10\.200\.9\.0/24"):
        node(ours.stage)
