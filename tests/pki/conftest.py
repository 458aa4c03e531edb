"""A small cluster, the shipped declarations, and a state directory of its own."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.pki import declared, issue
from hardway.pki.declared import Declarations
from hardway.state import State

CERTS = Path(__file__).parents[2] / "certs"


@pytest.fixture
def certs() -> Path:
    return CERTS


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def declarations() -> Declarations:
    return declared.load(CERTS)


@pytest.fixture(scope="session")
def inventory() -> Inventory:
    return Inventory(
        cluster="kit",
        hosts=(
            Host(name="lb-1", address=IPv4Address("10.240.0.10"), roles=frozenset({"loadbalancer"})),
            Host(
                name="controller-1",
                address=IPv4Address("10.240.0.11"),
                roles=frozenset({"controller"}),
                sans=("api.example.com", "203.0.113.7"),
            ),
            Host(name="controller-2", address=IPv4Address("10.240.0.12"), roles=frozenset({"controller"})),
            Host(name="worker-1", address=IPv4Address("10.240.0.21"), roles=frozenset({"worker"})),
        ),
        networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
        endpoint=Endpoint(loadbalancer="haproxy", address=IPv4Address("10.240.0.10"), name="kubernetes.example.com"),
    )


@pytest.fixture(scope="session")
def pristine(declarations: Declarations, inventory: Inventory, now: datetime, tmp_path_factory: pytest.TempPathFactory) -> State:
    """Everything issued once; only to read."""
    state = State(tmp_path_factory.mktemp("state") / "kit")
    issue.ensure(declarations, inventory, state, now)
    return state


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Nothing issued yet."""
    return State(tmp_path / "empty" / "kit")


@pytest.fixture
def issued(pristine: State, tmp_path: Path) -> State:
    """Everything issued, to be damaged by a test."""
    return State(Path(shutil.copytree(pristine.root, tmp_path / "kit")))
