"""The bare hosts, with the old files on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import OLD, Fleet


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    made = Fleet(base=tmp_path, patch=monkeypatch)
    made.push(OLD)
    for host in made.hosts.values():
        (host.root / "log").unlink(missing_ok=True)
    yield made
    made.close()
