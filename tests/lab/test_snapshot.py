"""A snapshot put back: what was there then is there again, nothing newer is, and nobody takes the old for the new."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardway.components import ALL
from hardway.inventory import Host
from hardway.snapshot.note import beside
from tests.lab.conftest import LabCluster

pytestmark = pytest.mark.lab

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def taken(cluster: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A snapshot that holds the ConfigMap `before`."""
    make(cluster, "before")
    path = tmp_path_factory.mktemp("snapshot") / "one.db"
    assert cluster.inv("etcd.snapshot", "--out", str(path)).returncode == 0
    yield path
    for host in cluster.inventory.on("controller"):
        cluster.live.run(host, "sh", "-c", "rm -rf /var/lib/etcd/before-*")
    for name in ("before", "after", "later"):
        cluster.live.request("DELETE", f"{MAPS}/{name}")


def make(cluster: LabCluster, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    assert cluster.live.request("POST", MAPS, body).status in {201, 409}


def listed(cluster: LabCluster, host: Host) -> tuple[set[str], int]:
    """The ConfigMaps that one host's API server knows, and the revision that it says."""
    found = cluster.live.api(MAPS, host=host).json()
    return {item["metadata"]["name"] for item in found["items"]}, int(found["metadata"]["resourceVersion"])


def outside(cluster: LabCluster) -> dict[str, str]:
    """What tells a member that was touched: each unit's invocation, and what lies beside etcd's data."""
    units = [component.unit for component in ALL if component.on == ("controller",)]
    look = f"systemctl show -p Id,InvocationID,ActiveState {' '.join(units)}; ls -A /var/lib/etcd; ls -A /var/lib/hardway"
    return {host.name: cluster.live.run(host, "sh", "-c", look) for host in cluster.inventory.on("controller")}


def copied(taken: Path, to: Path, **changes: Any) -> Path:
    """The same snapshot under another name, with a note that says something else."""
    path = to / "copy.db"
    shutil.copy(taken, path)
    beside(path).write_text(json.dumps(json.loads(beside(taken).read_text()) | changes))
    return path


def kill_between_stop_and_start(cluster: LabCluster, taken: Path) -> None:
    with cluster.start("etcd.restore", str(taken), "--yes") as run:
        assert run.stderr
        assert any("stopping etcd" in line for line in run.stderr)
        run.kill()


def test_a_snapshot_is_kept_with_a_note_for_its_owner_alone_and_leaves_nothing_on_hosts(cluster: LabCluster, taken: Path) -> None:
    note = json.loads(beside(taken).read_text())

    assert [path.stat().st_mode & 0o777 for path in (taken, beside(taken))] == [0o600, 0o600]
    assert (note["cluster"], note["size"]) == (cluster.inventory.cluster, taken.stat().st_size)
    assert note["revision"] > 0
    assert [key["name"] for key in note["encryption_keys"]] == [key.name for key in cluster.live.credentials.encryption_keys]
    for key in cluster.live.credentials.encryption_keys:
        assert key.secret not in beside(taken).read_text()
    assert "snapshot" not in "".join(outside(cluster).values())


def test_what_may_not_be_restored_is_refused_and_nothing_is_touched(cluster: LabCluster, taken: Path, tmp_path: Path) -> None:
    before = outside(cluster)
    damaged = copied(taken, tmp_path)
    damaged.write_bytes(damaged.read_bytes()[:5000] + b"damage" + damaged.read_bytes()[5006:])
    told = {"": cluster.inv("etcd.restore", str(damaged), "--yes").stderr}
    told["of cluster another"] = cluster.inv("etcd.restore", str(copied(taken, tmp_path, cluster="another")), "--yes").stderr
    keys = [{"name": "key-1999a", "fingerprint": "0123456789abcdef"}]
    told["key-1999a"] = cluster.inv("etcd.restore", str(copied(taken, tmp_path, encryption_keys=keys)), "--yes").stderr
    told["note says"] = cluster.inv("etcd.restore", str(copied(taken, tmp_path, revision=1)), "--yes").stderr
    told["add --yes"] = cluster.inv("etcd.restore", str(taken)).stderr
    told["no restore is under way"] = cluster.inv("etcd.revert", "--yes").stderr

    assert "it is damaged" in told.pop("")
    assert [part for part, text in told.items() if part not in text or "error: " not in text] == []
    assert before == outside(cluster)


def test_a_restore_that_was_killed_is_told_and_goes_on_to_the_end(cluster: LabCluster, taken: Path) -> None:
    """Cut short between stop and start, the worst moment: status says so, a push is refused, and the same again ends it."""
    make(cluster, "after")
    newest = max(listed(cluster, host)[1] for host in cluster.inventory.on("controller"))
    kill_between_stop_and_start(cluster, taken)

    stopped = cluster.inv("status")
    assert stopped.returncode == 1
    assert "controller-1: a restore of etcd is under way or was cut short" in stopped.stdout
    refused = cluster.inv("push")
    assert refused.returncode == 1
    assert "etcd is being restored from one.db" in refused.stderr

    done = cluster.inv("etcd.restore", str(taken), "--yes")

    assert done.returncode == 0
    assert "controller-3:/var/lib/etcd/before-" in done.stdout
    for host in cluster.inventory.on("controller"):
        names, revision = listed(cluster, host)
        assert {"before", "after"} & names == {"before"}
        assert revision > newest
    watched_everywhere(cluster)
    assert cluster.inv("status").returncode == 0
    assert cluster.inv("plan").returncode == 0
    assert cluster.inv("smoke").returncode == 0
    assert "restor" not in "".join(outside(cluster).values())


def watched_everywhere(cluster: LabCluster) -> None:
    """A watch through each instance that begins where the cluster was before a write through the first sees that write."""
    first = cluster.controller()
    begin = {host: listed(cluster, host)[1] for host in cluster.inventory.on("controller")}
    make(cluster, "later")
    written = int(cluster.live.api(f"{MAPS}/later", host=first).json()["metadata"]["resourceVersion"])
    for host, revision in begin.items():
        answer = cluster.live.api(f"{MAPS}?watch=1&resourceVersion={revision}&timeoutSeconds=2", host=host)
        events = [json.loads(line) for line in answer.body.splitlines()]
        assert [(one["type"], one["object"]["metadata"]["name"]) for one in events] == [("ADDED", "later")]
        assert int(events[0]["object"]["metadata"]["resourceVersion"]) == written
        assert written > revision


@pytest.mark.full
def test_a_restore_that_was_killed_can_be_given_up(cluster: LabCluster, taken: Path) -> None:
    make(cluster, "after")
    kill_between_stop_and_start(cluster, taken)

    assert cluster.inv("etcd.revert", "--yes").returncode == 0

    for host in cluster.inventory.on("controller"):
        assert "after" in listed(cluster, host)[0]
    assert cluster.inv("status").returncode == 0
    assert cluster.inv("plan").returncode == 0
