"""The shipped inventory as a cluster that was pushed: what each host carries of it, to be read back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from hardway import pod_ranges, render
from hardway.components import ALL
from hardway.desired import Blob, Secret, Text
from hardway.inventory import Inventory, load
from hardway.keeping.reading import paths
from hardway.pki import declared, issue
from hardway.pki.credentials import credentials
from hardway.pki.declared import Declarations
from hardway.state import State
from tests.remote.fakehost import FakeHost

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)

BLOBS = {name: Blob(sha256="0" * 64, size=0, local=Path(name)) for component in ALL for name in component.programs}

Files = dict[str, dict[PurePosixPath, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A cluster, the state/ that it was pushed from, and what its hosts carry."""

    declarations: Declarations
    inventory: Inventory
    state: State

    def carried(self, state: State) -> Files:
        """Every file of every host that a push from a state/ would bring, as far as a recovery reads it."""
        have = credentials(self.declarations, self.inventory, state)
        files: Files = {}
        for host in self.inventory.hosts:
            wanted = paths(self.declarations, self.inventory, host)
            parts = render.parts(self.inventory, host, render.ANY, have, BLOBS)
            contents = {file.path: file.content for part in parts for file in part.files if file.path in wanted}
            files[host.name] = {
                path: content.text if isinstance(content, Text) else content.data.decode()
                for path, content in contents.items()
                if isinstance(content, Text | Secret)
            }
        return files


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """Only to read."""
    declarations, inventory = declared.load(ROOT / "certs"), load(ROOT / "inventory.yaml")
    state = State(tmp_path_factory.mktemp("pushed") / "kit")
    issue.ensure(declarations, inventory, state, NOW)
    # Not those that would be allotted first: a recovery that only guesses is found out.
    before = dict(zip(("gone", "worker-2", "worker-1"), inventory.networks.pod_cidr.subnets(new_prefix=24), strict=False))
    pod_ranges.keep(state, before)
    return Pushed(declarations=declarations, inventory=pod_ranges.placed(inventory, before), state=state)


@pytest.fixture
def carried(pushed: Pushed) -> Files:
    return pushed.carried(pushed.state)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(base=tmp_path)
