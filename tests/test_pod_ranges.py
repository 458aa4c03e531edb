"""A worker's share of the Pods' network is allotted once."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from hardway import pod_ranges
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.state import State

SHIPPED = load(Path(__file__).parents[1] / "inventory.yaml")


def inventory(*workers: str, pod_cidr: str = "10.200.0.0/16") -> Inventory:
    hosts = tuple(
        Host(name=name, address=IPv4Address(f"10.240.0.{20 + number}"), roles=frozenset({"worker"})) for number, name in enumerate(workers)
    )
    networks = replace(SHIPPED.networks, pod_cidr=IPv4Network(pod_cidr))
    return replace(SHIPPED, hosts=(*SHIPPED.on("controller", "loadbalancer"), *hosts), networks=networks)


def test_a_range_stays_with_its_worker_whoever_comes_and_goes(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    pod_ranges.keep(state, pod_ranges.allot(inventory("a", "b"), pod_ranges.kept(state)))
    ranges = pod_ranges.allot(inventory("c", "b"), pod_ranges.kept(state))
    assert {name: str(one) for name, one in ranges.items()} == {"a": "10.200.0.0/24", "b": "10.200.1.0/24", "c": "10.200.2.0/24"}
    placed = {host.name: host.pod_range for host in pod_ranges.placed(inventory("c", "b"), ranges).hosts}
    assert placed["b"] == IPv4Network("10.200.1.0/24")
    assert placed["controller-1"] is None


def test_a_network_without_a_free_range_is_refused() -> None:
    with pytest.raises(Mistake, match="has no range left"):
        pod_ranges.allot(inventory("a", "b", pod_cidr="10.200.0.0/24"), {})


def test_a_range_never_follows_another_network() -> None:
    with pytest.raises(Mistake, match="a node's range never changes"):
        pod_ranges.allot(inventory("a", pod_cidr="10.201.0.0/16"), {"a": IPv4Network("10.200.0.0/24")})


def test_a_file_that_is_no_such_thing_is_told(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.write(pod_ranges.FILE, b"[]")
    with pytest.raises(Mistake, match=r"pod-ranges\.json: cannot be read"):
        pod_ranges.kept(state)


def test_a_range_that_another_run_has_given_away_meanwhile_is_refused(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    ours = pod_ranges.placed(inventory("a"), pod_ranges.allot(inventory("a"), {}))
    theirs = pod_ranges.placed(inventory("b"), pod_ranges.allot(inventory("b"), {}))

    pod_ranges.settle(state, theirs)
    with pytest.raises(Mistake, match="another run has allotted a's range meanwhile; run it again"):
        pod_ranges.settle(state, ours)
    pod_ranges.settle(state, theirs)

    assert pod_ranges.kept(state) == {"b": IPv4Network("10.200.0.0/24")}
