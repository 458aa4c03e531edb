"""state/ is lost, and built anew from the hosts; then its backup takes its place again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import LabCluster

pytestmark = pytest.mark.lab


@pytest.fixture
def backup(cluster: LabCluster, tmp_path: Path) -> Iterator[Path]:
    """A backup of the cluster's state/, which is there again afterwards."""
    secret, file = tmp_path / "secret", tmp_path / "kit.backup"
    secret.write_text("correct horse battery")
    secret.chmod(0o600)
    passphrase = ("--passphrase-file", str(secret))
    assert cluster.inv(*passphrase, "state.backup", str(file)).returncode == 0
    yield file
    done = cluster.inv(*passphrase, "state.restore", str(file), "--replace")
    for before in cluster.state.root.parent.glob(f"{cluster.state.root.name}.before-*"):
        shutil.rmtree(before)
    assert done.returncode == 0


def kept(cluster: LabCluster) -> dict[str, bytes]:
    """Every file of the PKI; but which generation signs tokens stands on no host."""
    return {
        re.sub("service-account/key-.*", "service-account/key", name): cluster.state.read(name) for name in cluster.state.glob("pki/**/*")
    }


def test_a_state_that_is_lost_is_built_anew_from_the_hosts(cluster: LabCluster, backup: Path) -> None:
    assert backup.stat().st_size > 1000
    before = kept(cluster)
    ranges = cluster.state.read("pod-ranges.json")
    for path in cluster.state.root.iterdir():
        if path.name != "lab":  # the hosts of this machine
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    unreached = cluster.inv("state.recover")
    assert unreached.returncode == 1
    assert cluster.inv("hosts.trust").returncode == 0

    done = cluster.inv("state.recover")

    assert done.returncode == 0, done.stderr
    lost = [line.partition(",")[0].partition(" (")[0] for line in done.stdout.splitlines() if line.startswith("lost: ")]
    assert lost == [
        "lost: the key of authority etcd",
        "lost: the key of authority front-proxy",
        "lost: the key of authority kubernetes",
        "lost: the operator's etcd-operator",
        "lost: the operator's admin",
    ]
    after = kept(cluster)
    # What rotations have left is on no host, and nobody needs it: which older authorities were ours, and who signs with one alone.
    past = {name for name in before if "/retired-" in name or name.endswith("/witness.pem")}
    assert after.keys() == before.keys() - past
    changed = {name for name in after if after[name] != before[name]}
    assert {name.partition("/authority-")[0] for name in changed} == {
        "pki/etcd",
        "pki/etcd/etcd-operator.pem",
        "pki/front-proxy",
        "pki/kubernetes",
        "pki/kubernetes/admin.pem",
    }
    assert cluster.state.read("pod-ranges.json") == ranges

    plan, push, nodes, status = (cluster.inv(*words) for words in (("plan",), ("push",), ("kubectl", "--", "get", "nodes"), ("status",)))

    assert (plan.returncode, plan.stdout) == (0, "nothing to change\n")
    assert push.stdout == "nothing to change\n"
    assert "not issued for now, as the key of authority kubernetes is not at hand: kubernetes/admin.pem" in push.stderr
    assert nodes.returncode == 0
    rows = [line.split() for line in status.stdout.splitlines() if line.startswith(("controller-", "worker-", "lb-"))]
    # Who stands in for the administrator is of another authority, and the schedulers know the clients of one alone.
    assert {row[1] for row in rows if row[-1] == "no"} == {"kube-scheduler"}
    assert "kube-scheduler: controller-1:10259: /metrics says 401" in status.stdout
