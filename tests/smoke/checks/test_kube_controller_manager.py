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
NODES = "/api/v1/nodes"


def item(name: str, **spec: str) -> dict[str, Any]:
    """A node that may be used."""
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "labels": LABELS}, "spec": spec, "status": status}


def leases(*names: str, renewed: bool = True) -> Callable[[str], dict[str, Any]]:
    """The Leases of nodes, at each look."""
    numbers = itertools.count(1)

    def look(_: str) -> dict[str, Any]:
        time = f"t{next(numbers) if renewed else 0}"
        return {"items": [{"metadata": {"name": name}, "spec": {"renewTime": time}} for name in names]}

    return look


@pytest.mark.parametrize(
    ("spec", "told"),
    [({}, f"GET {NODES}: no node has a Pod range"), ({"podCIDR": "10.9.0.0/24"}, f"GET {NODES}: podCIDR of n1 10.9.0.0/24")],
)
def test_on_a_cluster_of_others_each_nodes_lease_is_seen_renewed_and_what_is_not_looked_at_is_told(spec: dict[str, str], told: str) -> None:
    theirs = FakeNode(inventory=THEIRS, answers={NODES: {"items": [item("n1", **spec)]}, LEASES: leases("n1")})

    said = node(theirs.stage).splitlines()

    assert said == [f"GET {LEASES}: n1 renewed at t1 and t2", told, "taints are not looked at on a cluster that is not ours"]
    assert theirs.objects == {}


def test_on_a_cluster_of_others_a_node_without_a_range_fails_where_another_has_one() -> None:
    nodes = {"items": [item("n1", podCIDR="10.9.0.0/24"), item("n2")]}
    theirs = FakeNode(inventory=THEIRS, answers={NODES: nodes, LEASES: leases("n1", "n2")})

    with pytest.raises(Failed, match=r"each node to have a Pod range, as others have; got n2 has none, but n1 10\.9\.0\.0/24"):
        node(theirs.stage)


@pytest.mark.parametrize("found", [leases("n1", renewed=False), leases("other")])
def test_a_lease_that_nobody_renews_fails(found: Callable[[str], dict[str, Any]]) -> None:
    theirs = FakeNode(inventory=THEIRS, answers={NODES: {"items": [item("n1")]}, LEASES: found})

    with pytest.raises(Failed, match="the Lease of each node to be renewed within 40 s; got after 40 s: n1 was last renewed at "):
        node(theirs.stage)


def test_a_node_with_another_range_than_it_was_allotted_fails() -> None:
    other = {"spec": {"podCIDR": "10.200.9.0/24"}}
    ours = FakeNode(answers={"/api/v1/nodes/worker-1": other, LEASES: leases("worker-1")})

    with pytest.raises(Failed, match=r"to have the Pod range 10\.200\.1\.0/24, which it was allotted; got 10\.200\.9\.0/24"):
        node(ours.stage)
