"""Faults of a snapshot: refused before anything stops, and a good one is put back afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hardway.errors import Mistake
from tests.snapshot.test_restore import SNAPSHOT, FakeCluster, cluster, do, note, snapshot

pytestmark = pytest.mark.lab
__all__ = ["cluster", "snapshot"]  # fixtures


def refused(on: FakeCluster, path: Path) -> str:
    before = on.data()
    with pytest.raises(Mistake) as caught:
        do(on, path)
    assert on.log() == []  # nothing was stopped
    assert on.data() == before
    assert on.marks() == [""] * 3
    return str(caught.value)


def converges(on: FakeCluster, path: Path) -> None:
    path.write_bytes(SNAPSHOT)
    note(path)
    do(on, path)
    assert [held["member"] for held in on.data()] == ["new"] * 3


@pytest.mark.parametrize("damage", [SNAPSHOT[:-1], b"X" + SNAPSHOT[1:], b""], ids=["cut short", "a byte flipped", "empty"])
def test_fault_24_a_corrupt_snapshot(cluster: FakeCluster, snapshot: Path, damage: bytes) -> None:
    snapshot.write_bytes(damage)
    assert "damaged or no snapshot" in refused(cluster, snapshot)
    converges(cluster, snapshot)


def test_fault_25_a_snapshot_of_another_cluster_or_without_its_key(cluster: FakeCluster, snapshot: Path) -> None:
    note(snapshot, cluster="another")
    assert "it was taken of cluster another, this one is hardway" in refused(cluster, snapshot)
    note(snapshot)
    ours = cluster.credentials
    cluster.credentials = replace(ours, encryption_keys=())
    assert "encryption key key-2026a" in refused(cluster, snapshot)
    cluster.credentials = ours
    converges(cluster, snapshot)
