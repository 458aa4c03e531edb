"""A host of its own for each test, and one sshd for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.fakehost import FakeHost
from tests.remote.sshd import Sshd, start


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(base=tmp_path)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = start(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()
