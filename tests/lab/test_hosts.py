"""hosts.trust as an operator meets it: new keys are shown and recorded, a changed one is refused until it is named."""

from __future__ import annotations

import re

import pytest

from tests.lab.conftest import LabCluster
from tests.remote.sshd import make_key

pytestmark = pytest.mark.lab


def verdicts(cluster: LabCluster, *words: str) -> tuple[int, set[str]]:
    done = cluster.inv("hosts.trust", *words)
    return done.returncode, {" ".join(line.split()[i] for i in (0, -1)) for line in done.stdout.splitlines() if "SHA256:" in line}


def test_host_keys_are_recorded_once_and_a_changed_one_is_refused(cluster: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    names = [host.name for host in cluster.inventory.hosts]
    known_hosts = cluster.state.path("known_hosts")
    right = known_hosts.read_text()
    try:
        known_hosts.unlink()
        assert "the host key of" in cluster.inv("plan").stderr
        assert verdicts(cluster) == (0, {f"{name} recorded" for name in names})
        assert verdicts(cluster) == (0, {f"{name} known" for name in names})

        address = re.escape(str(cluster.controller(1).address))
        other = make_key(tmp_path_factory.mktemp("key") / "other").strip()
        known_hosts.write_text(
            re.sub(rf"^{address} .*$", f"{cluster.controller(1).address} {other}", known_hosts.read_text(), flags=re.MULTILINE)
        )
        code, seen = verdicts(cluster)
        assert (code, "controller-1 changed" in seen) == (1, True)
        refused = cluster.inv("plan")
        assert refused.returncode == 1
        assert refused.stderr.count("SHA256:") == 2
        code, seen = verdicts(cluster, "--replace", "controller-1")
        assert (code, "controller-1 recorded" in seen) == (0, True)
        assert cluster.inv("plan").returncode == 0
    finally:
        known_hosts.write_text(right)


def test_a_host_that_is_not_in_the_inventory_is_refused(cluster: LabCluster) -> None:
    done = cluster.inv("hosts.trust", "--replace", "controller-9")

    assert done.returncode == 1
    assert "controller-9 is not in the inventory" in done.stderr
