"""etcd's leader is restarted last, and not as the leader."""

from __future__ import annotations

import pytest

from hardway.components import etcd
from tests.lab.conftest import LabCluster

pytestmark = [pytest.mark.lab, pytest.mark.full]


def test_the_member_that_leads_hands_over_before_it_is_restarted(cluster: LabCluster) -> None:
    text = cluster.path.read_text()
    leader = etcd.leader(cluster.live)
    assert leader
    cluster.path.write_text(text + "\nflags:\n  etcd: {snapshot-count: 9000}\n")
    try:
        done = cluster.inv("push")
    finally:
        cluster.path.write_text(text)
        restored = cluster.inv("push")

    told = [line.strip() for line in done.stderr.splitlines() if ": etcd: " in line]
    restarts = [n for n, line in enumerate(told) if "restart (" in line]
    handed = next(n for n, line in enumerate(told) if " leads now; " in line)
    assert told[handed].startswith(f"{leader.name}: etcd: ")
    assert handed + 1 == restarts[-1]
    assert told[restarts[-1]].startswith(f"{leader.name}: ")
    assert (done.returncode, restored.returncode) == (0, 0)
