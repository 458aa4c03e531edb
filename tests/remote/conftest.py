"""A host of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.remote.fakehost import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(base=tmp_path)
