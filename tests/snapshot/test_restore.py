"""A restore over three hosts: refused before anything stops, or whole; what was cut short goes on, or is put back."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from hardway.components import ALL, etcd
from hardway.desired import Answer, Gate, Roll
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.pki import declared
from hardway.pki.credentials import Credentials, EncryptionKey, placeholders
from hardway.remote.cluster import Cluster
from hardway.remote.lock import Held
from hardway.remote.machine import Machine
from hardway.snapshot import restore as engine
from hardway.snapshot.note import KeyName, Note, verified
from hardway.snapshot.restore import REACHED, SKIP, Members, Restore, restore, revert
from hardway.snapshot.save import save
from hardway.state import State
from tests.remote.fakehost import FakeHost
from tests.snapshot.test_member import ETCDUTL, held, put

ROOT = Path(__file__).parents[2]
INVENTORY = load(ROOT / "inventory.yaml")
HOSTS = INVENTORY.on("controller")
NOW = datetime(2026, 11, 25, tzinfo=UTC)
KEY = EncryptionKey(name="key-2026a", secret=base64.b64encode(bytes(32)).decode())
PAGES = bytes(512 * 3)
SNAPSHOT = PAGES + hashlib.sha256(PAGES).digest()

# A unit runs unless it was stopped; one whose name is in `stuck` does not stop.
SYSTEMCTL = """#!/bin/sh
stopped=$HARDWAY_ROOT/stopped; mkdir -p "$stopped"
for unit; do :; done
case $1 in
  --version) echo 'systemd 252' ;;
  is-active) [ -e "$stopped/$2" ] && echo inactive || echo active ;;
  show)
    shift 4; first=yes
    for unit; do
      [ $first ] || echo; first=
      active=active; [ ! -e "$stopped/$unit" ] || active=inactive
      printf '%s\\n' LoadState=loaded ActiveState=$active SubState=x UnitFileState=enabled InvocationID=1 NRestarts=0 ActiveEnterTimestamp=
    done ;;
  stop) echo "stop $unit" >>"$HARDWAY_ROOT/log"; [ -e "$HARDWAY_ROOT/stuck" ] || : >"$stopped/$unit" ;;
  start | restart) echo "start $unit" >>"$HARDWAY_ROOT/log"; rm -f "$stopped/$unit" ;;
esac
"""
ETCDCTL = """#!/bin/sh
for last; do :; done
cp "$HARDWAY_ROOT/content" "$last"
"""


@dataclass
class FakeCluster:
    """Hosts that are directories; etcd and API servers that answer as told."""

    hosts: dict[str, FakeHost]
    machines: dict[str, Machine]
    revision: int = 100
    secrets: int = 200
    inventory: Inventory = INVENTORY
    credentials: Credentials = field(
        default_factory=lambda: replace(placeholders(declared.load(ROOT / "certs"), INVENTORY), encryption_keys=(KEY,))
    )
    clusters: tuple[int, ...] = (1, 1, 1)

    def machine(self, host: Host) -> Machine:
        return self.machines[host.name]

    @contextmanager
    def lock(self, hosts: Sequence[Host], doing: str) -> Iterator[dict[str, Held]]:
        with ExitStack() as stack:
            yield {host.name: stack.enter_context(self.machine(host).lock(doing)) for host in hosts}

    def etcd(self, host: Host, *_: object) -> Answer:
        at = HOSTS.index(host)
        said = {"health": "true", "leader": "1", "raftTerm": "1", "version": "3.7.3"}
        header = {"cluster_id": str(self.clusters[at]), "member_id": str(at + 1), "revision": str(self.revision)}
        return Answer(status=200, body=json.dumps(said | {"header": header}).encode())

    def api(self, _: str, **__: object) -> Answer:
        return Answer(status=self.secrets, body=b"{}")

    def log(self) -> list[str]:
        return [line for host in self.hosts.values() for line in host.log() if not line.startswith("snapshot")]

    def data(self) -> list[dict[str, str]]:
        return [held(host) for host in self.hosts.values()]

    def marks(self) -> list[str]:
        return [machine.observe(frozenset()).restoring for machine in self.machines.values()]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    hosts = {}
    for host in HOSTS:
        (tmp_path / host.name).mkdir()
        made = hosts[host.name] = FakeHost(base=tmp_path / host.name)
        made.program("systemctl", SYSTEMCTL)
        made.program("etcdutl", ETCDUTL)
        made.program("etcdctl", ETCDCTL)
        made.program("chown", "#!/bin/sh\n")
        made.path("/content").write_bytes(SNAPSHOT)
        put(made, "member", "old")
    opened = Roll(gates=(Gate(name="open", ask=lambda _live, _host: None, within=0),))
    etcd_itself = replace(etcd.COMPONENT, roll=opened)
    monkeypatch.setattr(etcd, "COMPONENT", etcd_itself)
    ours = tuple(replace(one, roll=opened) for one in ALL if one.name != "etcd")
    monkeypatch.setattr(engine, "ALL", (etcd_itself, *ours))
    return FakeCluster(hosts, {name: Machine(name=name, line=host, root=str(host.root)) for name, host in hosts.items()})


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "one.db"
    path.write_bytes(SNAPSHOT)
    note(path)
    return path


def note(path: Path, **changes: Any) -> None:
    written = Note(
        cluster="hardway",
        taken=NOW.isoformat(),
        member="controller-1",
        etcd_cluster="1",
        etcd="3.7.3",
        kubernetes="1.37.2",
        sha256=hashlib.sha256(SNAPSHOT).hexdigest(),
        size=len(SNAPSHOT),
        revision=7,
        keys=3,
        hash=5,
        encryption_keys=(KeyName.of(KEY),),
    )
    replace(written, **changes).write(path)


def do(cluster: FakeCluster, snapshot: Path) -> tuple[str, ...]:
    return restore(cast("Cluster", cluster), snapshot, State(snapshot.parent / "state"), NOW, lambda line: _restored(cluster, line))


def _restored(cluster: FakeCluster, line: str) -> None:
    """The members' own view moves on as they start with the new data."""
    if line.startswith("etcd: open"):
        cluster.revision = 7 + int(next(iter(cluster.marks())).split()[2])


def test_every_member_gets_the_new_data_and_keeps_the_old(cluster: FakeCluster, snapshot: Path) -> None:
    kept = do(cluster, snapshot)

    assert kept == tuple(f"{host.name}:/var/lib/etcd/before-20261125T000000Z" for host in HOSTS)
    assert cluster.data() == [{"before-20261125T000000Z/member": "old", "member": "new"}] * 3
    assert cluster.marks() == [""] * 3
    assert State(snapshot.parent / "state").read(REACHED) == f"{cluster.revision}\n".encode()
    units = [f"{name}.service" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")]
    expected = [
        *(f"stop {unit}" for unit in reversed(units)),
        "stop etcd.service",
        "start etcd.service",
        *(f"start {unit}" for unit in units),
    ]
    assert cluster.log() == expected * 3
    assert [machine.observe(frozenset()).stored for machine in cluster.machines.values()] == [frozenset()] * 3


def test_the_same_snapshot_again_goes_beyond_what_was_seen_since(cluster: FakeCluster, snapshot: Path) -> None:
    """Also when all members have lost their data in between, and began anew."""
    state = State(snapshot.parent / "state")

    def reaches() -> int:
        members = Members(cluster=cast("Cluster", cluster), hosts=HOSTS, held={}, tell=lambda _: None)
        return 7 + engine._skip(members, verified(snapshot), state)

    assert reaches() == 100 + SKIP
    cluster.revision = 3
    assert reaches() == 7 + SKIP
    state.write(REACHED, b"5000000007\n")  # as a restore does
    assert reaches() == 5000000007 + SKIP


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cluster": "another"}, "it was taken of cluster another"),
        ({"encryption_keys": (KeyName(name="key-1999a", fingerprint="x"),)}, "encryption key key-1999a"),
        ({"hash": 6}, "something else in the snapshot than its note says"),
        ({"size": 1 << 60}, "make room; nothing was stopped"),
    ],
)
def test_what_is_refused_stops_nothing_and_leaves_nothing(cluster: FakeCluster, snapshot: Path, changes: dict[str, Any], told: str) -> None:
    note(snapshot, **changes)

    with pytest.raises(Mistake, match=told):
        do(cluster, snapshot)
    assert cluster.log() == []
    assert cluster.data() == [{"member": "old"}] * 3
    assert cluster.marks() == [""] * 3


def test_data_that_cannot_be_made_on_one_member_is_made_on_none(cluster: FakeCluster, snapshot: Path) -> None:
    cluster.hosts["controller-3"].path("/damaged").touch()

    with pytest.raises(Mistake, match=r"controller-3: .*expected sha256"):
        do(cluster, snapshot)
    assert cluster.log() == []
    assert cluster.data() == [{"member": "old"}] * 3


def cut_short(cluster: FakeCluster, snapshot: Path) -> None:
    """One API server does not stop, so the restore ends half-way."""
    cluster.hosts["controller-2"].path("/stuck").touch()
    with pytest.raises(Mistake, match=r"controller-2: .* did not stop(.|\n)*etcd.revert --yes puts the old data back"):
        do(cluster, snapshot)
    cluster.hosts["controller-2"].path("/stuck").unlink()


def test_one_that_was_cut_short_marks_every_host_and_goes_on(cluster: FakeCluster, snapshot: Path) -> None:
    cut_short(cluster, snapshot)
    assert {Restore.parse(mark).name for mark in cluster.marks()} == {"one.db"}

    do(cluster, snapshot)

    assert cluster.data() == [{"before-20261125T000000Z/member": "old", "member": "new"}] * 3
    assert cluster.marks() == [""] * 3


@pytest.mark.full
def test_one_that_was_cut_short_makes_the_data_of_a_member_that_lost_its_disk(cluster: FakeCluster, snapshot: Path) -> None:
    cut_short(cluster, snapshot)
    shutil.rmtree(cluster.hosts["controller-1"].path("/var/lib/etcd"))

    do(cluster, snapshot)

    assert [data["member"] for data in cluster.data()] == ["new"] * 3


def test_another_snapshot_does_not_mix_with_one_that_is_not_over(cluster: FakeCluster, snapshot: Path, tmp_path: Path) -> None:
    cut_short(cluster, snapshot)
    pages = bytes(512)
    other = tmp_path / "two.db"
    other.write_bytes(pages + hashlib.sha256(pages).digest())
    note(other, sha256=hashlib.sha256(other.read_bytes()).hexdigest())

    with pytest.raises(Mistake, match=r"a restore of one\.db is not over"):
        do(cluster, other)


def test_one_that_was_cut_short_is_given_up(cluster: FakeCluster, snapshot: Path) -> None:
    cut_short(cluster, snapshot)

    revert(cast("Cluster", cluster), lambda _: None)

    assert cluster.data() == [{"member": "old"}] * 3
    assert cluster.marks() == [""] * 3
    with pytest.raises(Mistake, match="no restore is under way"):
        revert(cast("Cluster", cluster), lambda _: None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"secrets": 500}, "cannot read the Secrets: it answers 500"),
        pytest.param({"clusters": (1, 2, 1)}, "do not belong to one cluster", marks=pytest.mark.full),
    ],
)
def test_one_that_does_not_prove_itself_is_not_over(cluster: FakeCluster, snapshot: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Mistake, match=told):
        do(replace(cluster, **changes), snapshot)

    assert all(cluster.marks())


def test_a_snapshot_is_saved_with_its_note_and_never_over_another(cluster: FakeCluster, tmp_path: Path) -> None:
    path = tmp_path / "new.db"

    written = save(cast("Cluster", cluster), path, NOW, lambda _: None)

    assert path.read_bytes() == SNAPSHOT
    assert (written.member, written.revision, written.keys) == ("controller-2", 7, 3)
    assert Note.read(path) == written
    with pytest.raises(Mistake, match="no snapshot is overwritten"):
        save(cast("Cluster", cluster), path, NOW, lambda _: None)


def test_a_snapshot_that_was_damaged_on_its_way_is_not_kept(cluster: FakeCluster, tmp_path: Path) -> None:
    for host in cluster.hosts.values():
        host.path("/content").write_bytes(SNAPSHOT[:-1])

    with pytest.raises(Mistake, match="damaged or cut short"):
        save(cast("Cluster", cluster), tmp_path / "new.db", NOW, lambda _: None)
    assert list(tmp_path.glob("*new.db*")) == []
