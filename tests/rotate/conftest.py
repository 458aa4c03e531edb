"""A cluster whose audit logs are in files here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hardway.inventory import load
from hardway.pki import declared
from hardway.pki.credentials import credentials
from hardway.pki.issue import ensure
from hardway.state import State
from tests.rotate.logs import Logged

ROOT = Path(__file__).parents[2]


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / "kit")
    ensure(declared.load(ROOT / "certs"), load(ROOT / "inventory.yaml"), made, datetime.now(UTC) - timedelta(days=1))
    return made


@pytest.fixture
def cluster(tmp_path: Path, state: State) -> Logged:
    inventory, root = load(ROOT / "inventory.yaml"), tmp_path / "logs"
    root.mkdir()
    return Logged(root=root, inventory=inventory, credentials=credentials(declared.load(ROOT / "certs"), inventory, state))
