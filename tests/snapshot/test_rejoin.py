"""A member that comes back while the others serve: refused where that cannot be, and brought to its end from wherever it was cut short."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from hardway.components import etcd, kube_apiserver
from hardway.desired import Answer, Gate, Roll
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.remote.cluster import Cluster
from hardway.remote.lock import Held
from hardway.remote.machine import Machine
from hardway.snapshot import rejoin as engine
from hardway.snapshot.rejoin import Rejoined, rejoin
from tests.remote.fakehost import FakeHost

INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")
HOSTS = INVENTORY.on("controller")
LOST, NEW = HOSTS[1], 20
NOW = datetime(2026, 11, 28, tzinfo=UTC)
DATA = "/var/lib/etcd"
DROP_IN = "/run/systemd/system/etcd.service.d"
MARK = "/var/lib/hardway/rejoining"
KEPT = "controller-2:/var/lib/etcd/before-20261128T000000Z"

# etcd runs unless it was stopped; what it is started with is written down, and so is that it makes a log of its own.
SYSTEMCTL = """#!/bin/sh
stopped=$HARDWAY_ROOT/stopped
for unit; do :; done
case $1 in
  --version) echo 'systemd 252' ;;
  is-active) [ -e "$stopped" ] && { echo inactive; exit 3; } || echo active ;;
  show)
    shift 4; first=yes
    for unit; do
      [ $first ] || echo; first=
      loaded=loaded; [ ! -e "$HARDWAY_ROOT/bare" ] || loaded=not-found
      active=active; [ $loaded = loaded ] || active=inactive
      printf '%s\\n' LoadState=$loaded ActiveState=$active SubState=x UnitFileState=enabled InvocationID=1 NRestarts=0 ActiveEnterTimestamp=
    done ;;
  stop) echo "stop" >>"$HARDWAY_ROOT/log"; : >"$stopped" ;;
  start | restart)
    state=data
    [ -e "$HARDWAY_ROOT/var/lib/etcd/member/wal" ] || state=$(cat "$HARDWAY_ROOT/run/systemd/system/etcd.service.d/rejoin.env")
    echo "$1 $state" >>"$HARDWAY_ROOT/log"; rm -f "$stopped"
    mkdir -p "$HARDWAY_ROOT/var/lib/etcd/member/wal" ;;
esac
"""
STARTED = ["stop", "restart ETCD_INITIAL_CLUSTER_STATE=existing"]


@dataclass
class FakeCluster:
    """Hosts that are directories, and etcd's members as the others list them."""

    hosts: dict[str, FakeHost]
    machines: dict[str, Machine]
    inventory: Inventory = INVENTORY
    members: list[dict[str, Any]] = field(default_factory=list)
    ill: dict[Host, str] = field(default_factory=dict)
    itself: int | None = None  # what the member on the host says that it is; None: it does not answer
    reluctant: int = 1  # refusals before a change is made
    said: list[str] = field(default_factory=list)  # changes
    told: list[str] = field(default_factory=list)

    def machine(self, host: Host) -> Machine:
        return self.machines[host.name]

    @contextmanager
    def lock(self, hosts: Sequence[Host], doing: str) -> Iterator[dict[str, Held]]:
        with ExitStack() as stack:
            yield {host.name: stack.enter_context(self.machine(host).lock(doing)) for host in hosts}

    def api(self, _: str, **__: object) -> Answer:
        return Answer(status=200, body=b"ok")

    def etcd(self, host: Host, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        if path.startswith("/v3/cluster"):
            assert host != LOST
            return self._membership(path.rpartition("/")[2], body or {})
        if host in self.ill:
            raise Mistake.at(host.name, self.ill[host])
        number = next((at + 1 for at, one in enumerate(HOSTS) if one.address == host.address), 0)
        if host == LOST:
            self._comes_up()
            if self.itself is None:
                raise Mistake.at(host.name, "connection refused")
            number = self.itself
        learner = any(int(one["ID"]) == number and one.get("isLearner") for one in self.members)
        status = {"health": "true", "leader": "1", "raftTerm": "1", "version": "3.7.3", "isLearner": learner}
        return answered(status | {"header": {"cluster_id": "9", "member_id": str(number)}})

    def _comes_up(self) -> None:
        """A member that was started for the first time says its name to the others."""
        last = self.lost.log()[-1:]
        if last == STARTED[1:] and self.members[-1]["ID"] == str(NEW):
            self.members[-1]["name"] = LOST.name
            self.itself = NEW

    def _membership(self, change: str, body: Mapping[str, Any]) -> Answer:
        if change == "list":
            return answered({"members": self.members})
        if self.reluctant:
            self.reluctant -= 1
            return answered({"code": 14, "message": "etcdserver: unhealthy cluster"}, 503)
        self.said.append(change)
        if change == "add":
            assert body == {"peerURLs": [etcd.peer(LOST)], "isLearner": True}
            self.members.append({"ID": str(NEW), "peerURLs": body["peerURLs"], "isLearner": True})
        if change == "remove":
            self.members = [one for one in self.members if one["ID"] != body["ID"]]
        if change == "promote":
            (mine,) = [one for one in self.members if one["ID"] == body["ID"]]
            del mine["isLearner"]
        self.reluctant = 1
        return answered({})

    @property
    def lost(self) -> FakeHost:
        return self.hosts[LOST.name]

    @property
    def mine(self) -> dict[str, Any] | None:
        return next((one for one in self.members if etcd.peer(LOST) in one["peerURLs"]), None)

    def has(self, *paths: str) -> None:
        for path in paths:
            self.lost.path(path).mkdir(parents=True)

    def marked(self) -> None:
        self.lost.path(MARK).write_text("20261128T000000Z\n")


def answered(body: object, status: int = 200) -> Answer:
    return Answer(status=status, body=json.dumps(body).encode())


def listed(host: Host, number: int, **more: Any) -> dict[str, Any]:
    return {"ID": str(number), "name": host.name, "peerURLs": [etcd.peer(host)], **more}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """The second of three members has lost its data and does not run."""
    monkeypatch.setattr(engine, "PAUSE", 0)
    monkeypatch.setattr(engine, "AGREED", 0)
    monkeypatch.setattr(engine, "CAUGHT_UP", 0)
    ready = Roll(gates=(Gate(name="ready", ask=kube_apiserver.ready, within=0),))
    monkeypatch.setattr(kube_apiserver, "COMPONENT", replace(kube_apiserver.COMPONENT, roll=ready))
    hosts = {}
    for host in HOSTS:
        (tmp_path / host.name).mkdir()
        made = hosts[host.name] = FakeHost(base=tmp_path / host.name)
        made.program("systemctl", SYSTEMCTL)
        made.program("chown", "#!/bin/sh\n")
        made.path("/var/lib/hardway").mkdir()
        made.path(DATA).mkdir()
    machines = {name: Machine(name=name, line=host, root=str(host.root)) for name, host in hosts.items()}
    return FakeCluster(hosts, machines, members=[listed(host, at + 1) for at, host in enumerate(HOSTS)])


def do(cluster: FakeCluster, name: str = LOST.name, *, yes: bool = False) -> Rejoined:
    return rejoin(cast("Cluster", cluster), name, NOW, cluster.told.append, yes=yes)


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused once is asked for again."""
    monkeypatch.setattr(engine, "AGREED", 30)
    monkeypatch.setattr(engine, "CAUGHT_UP", 30)


def whole(cluster: FakeCluster) -> None:
    """A new member votes, it has data, and nothing of the way there is left."""
    assert cluster.mine == {"ID": str(NEW), "name": LOST.name, "peerURLs": [etcd.peer(LOST)]}
    assert len(cluster.members) == 3
    assert cluster.lost.path(f"{DATA}/member/wal").exists()
    assert [path for path in (MARK, DROP_IN) if cluster.lost.path(path).exists()] == []


def test_a_member_that_is_lost_leaves_and_another_votes_in_its_place(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)

    back = do(cluster)

    whole(cluster)
    assert (back.member.id, back.kept) == (NEW, "")
    assert cluster.said == ["remove", "add", "promote"]
    assert cluster.lost.log() == STARTED
    assert all(host.log() == [] for name, host in cluster.hosts.items() if name != LOST.name)
    assert [line for line in cluster.told if "votes" in line] == ["controller-2: it has caught up and votes"]


def test_what_is_waited_for_is_told_while_it_is_waited_for(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)
    monkeypatch.setattr(engine, "TOLD", 0)

    do(cluster)

    waits = ("its old member has to leave", "a new member has to be let in", "its member has to catch up")
    assert [line for line in cluster.told if "has to" in line] == [f"controller-2: {one}: etcdserver: unhealthy cluster" for one in waits]


def test_what_a_member_makes_that_may_not_begin_is_no_data(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)
    cluster.has(f"{DATA}/member/snap")

    assert do(cluster).kept == KEPT

    whole(cluster)


def test_data_of_a_member_that_is_not_well_is_kept_and_only_if_that_is_meant(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)
    cluster.has(f"{DATA}/member/wal/old")

    with pytest.raises(Mistake, match=r"controller-2: etcd's data is there .* connection refused; .*add --yes"):
        do(cluster)
    assert cluster.said == cluster.lost.log() == []

    assert do(cluster, yes=True).kept == KEPT
    assert cluster.lost.path(f"{DATA}/before-20261128T000000Z/member/wal/old").exists()
    whole(cluster)


def test_who_is_no_controller_is_told_who_is(cluster: FakeCluster) -> None:
    with pytest.raises(Mistake, match=r"worker-1: is no controller, .*name one of controller-1, controller-2, controller-3"):
        do(cluster, "worker-1")


def test_of_fewer_than_three_none_is_missed(cluster: FakeCluster) -> None:
    few = [host for host in INVENTORY.hosts if host not in HOSTS[1:]]
    cluster.inventory = replace(INVENTORY, hosts=tuple(few))

    with pytest.raises(Mistake, match=r"controller-1: etcd has 1 member, which cannot lose one.*etcd\.restore FILE --yes"):
        do(cluster, "controller-1")


def test_without_a_quorum_a_snapshot_is_the_way(cluster: FakeCluster) -> None:
    cluster.ill[HOSTS[2]] = "no route"

    with pytest.raises(Mistake, match=r"controller-3: its member is not well .*no route.*no quorum; .*\./inv etcd\.restore FILE --yes"):
        do(cluster)
    assert cluster.said == cluster.lost.log() == []


def test_a_learner_beside_it_does_not_count(cluster: FakeCluster) -> None:
    cluster.members[2]["isLearner"] = True

    with pytest.raises(Mistake, match=r"controller-3: .*learner.*etcd\.rejoin controller-3"):
        do(cluster)


def test_with_a_quorum_and_another_away_that_one_comes_first(cluster: FakeCluster) -> None:
    away = replace(HOSTS[2], name="controller-5")
    cluster.ill[away] = "away"

    with pytest.raises(Mistake, match=r"controller-5: .*away.*takes no member in while another is away"):
        engine._refuse_unwell(cast("Cluster", cluster), LOST, (HOSTS[0], HOSTS[2], replace(HOSTS[0], name="controller-4"), away))


def test_a_member_that_is_well_needs_no_mending(cluster: FakeCluster) -> None:
    cluster.itself = 2

    with pytest.raises(Mistake, match="controller-2: its member is well: there is nothing to mend"):
        do(cluster, yes=True)
    assert cluster.said == cluster.lost.log() == []


def test_a_restore_that_is_not_over_comes_first(cluster: FakeCluster) -> None:
    cluster.hosts["controller-3"].path("/var/lib/hardway/restoring").write_text("1 cafe 1000 one.db\n")

    with pytest.raises(Mistake, match=r"controller-3: a restore of etcd is under way"):
        do(cluster)


def test_members_of_others_are_not_guessed_at(cluster: FakeCluster) -> None:
    cluster.members.append({"ID": "4", "name": "stranger", "peerURLs": ["https://10.0.0.9:2380"]})

    with pytest.raises(Mistake, match="members that are not in the inventory: stranger"):
        do(cluster)


def test_a_host_without_etcd_is_pushed_first(cluster: FakeCluster) -> None:
    cluster.lost.path("/bare").touch()

    with pytest.raises(Mistake, match=r"controller-2: etcd is not installed there; run \./inv push first"):
        do(cluster)


def noted(cluster: FakeCluster) -> None:
    cluster.marked()


def moved(cluster: FakeCluster) -> None:
    cluster.marked()
    cluster.has(f"{DATA}/before-20261128T000000Z/member/wal")


def removed(cluster: FakeCluster) -> None:
    cluster.marked()
    cluster.members.pop(1)


def let_in(cluster: FakeCluster) -> None:
    removed(cluster)
    cluster.members.append({"ID": str(NEW), "peerURLs": [etcd.peer(LOST)], "isLearner": True})


def rebooted_before(cluster: FakeCluster) -> None:
    """One whose name is listed with an id that is not of the beginning makes a cluster of its own, in which it waits for ever."""
    cluster.marked()
    cluster.has(f"{DATA}/member/wal/own")


def rebooted(cluster: FakeCluster) -> None:
    """So does one that is not listed."""
    removed(cluster)
    cluster.has(f"{DATA}/member/wal/own")


def rebooted_after(cluster: FakeCluster) -> None:
    """And one that was let in, and not started as one that joins."""
    let_in(cluster)
    cluster.has(f"{DATA}/member/wal/own")


def started(cluster: FakeCluster) -> None:
    """As far as that it runs and has said its name."""
    let_in(cluster)
    cluster.members[-1]["name"] = LOST.name
    cluster.itself = NEW
    cluster.has(f"{DATA}/member/wal", DROP_IN)
    cluster.lost.path(f"{DROP_IN}/rejoin.conf").touch()


def voting(cluster: FakeCluster) -> None:
    """By a hand other than ours, or well again by itself."""
    started(cluster)
    del cluster.members[-1]["isLearner"]


@pytest.mark.parametrize(
    ("cut", "changes", "log"),
    [
        (noted, ["remove", "add", "promote"], STARTED),
        (moved, ["remove", "add", "promote"], STARTED),
        (removed, ["add", "promote"], STARTED),
        (rebooted_before, ["remove", "add", "promote"], STARTED),
        (rebooted, ["add", "promote"], STARTED),
        (rebooted_after, ["remove", "add", "promote"], STARTED),
        (let_in, ["promote"], STARTED),
        (started, ["promote"], ["start data"]),
    ],
)
def test_what_was_cut_short_is_ended_by_the_same_again(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, cut: Callable[[FakeCluster], None], changes: list[str], log: list[str]
) -> None:
    patient(monkeypatch)
    cut(cluster)

    do(cluster)

    whole(cluster)
    assert cluster.said == changes
    assert cluster.lost.log() == log


def test_one_that_votes_already_is_only_noted_so(cluster: FakeCluster) -> None:
    voting(cluster)

    do(cluster)

    whole(cluster)
    assert cluster.said == cluster.lost.log() == []
    with pytest.raises(Mistake, match="nothing to mend"):
        do(cluster)


def test_a_learner_that_has_lost_its_data_too_is_made_anew(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have acknowledged what it no longer has."""
    patient(monkeypatch)
    started(cluster)
    cluster.members[-1]["ID"] = "19"
    cluster.itself = None
    cluster.lost.path(f"{DATA}/member/wal").rmdir()

    do(cluster)

    whole(cluster)
    assert cluster.said == ["remove", "add", "promote"]


def test_a_learner_that_never_comes_is_told_and_made_anew_if_that_is_meant(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    started(cluster)
    cluster.members[-1]["ID"] = "19"
    cluster.itself = None

    with pytest.raises(Mistake, match=r"controller-2: its member has to join.*another member.*run the same again"):
        do(cluster)
    patient(monkeypatch)

    assert do(cluster, yes=True).kept == KEPT
    whole(cluster)
    assert cluster.said == ["remove", "add", "promote"]


def test_data_of_one_that_votes_and_went_down_is_not_taken_for_what_a_reboot_has_made(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)

    def cut(line: str) -> None:
        if "has caught up" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rejoin(cast("Cluster", cluster), LOST.name, NOW, cut, yes=False)
    assert not cluster.lost.path(MARK).exists()
    cluster.ill[LOST] = "it is stopped"

    with pytest.raises(Mistake, match=r"controller-2: etcd's data is there .* it is stopped; .*\./inv push starts one that is stopped"):
        do(cluster)


def test_a_change_that_etcd_does_not_make_is_told_in_its_words(cluster: FakeCluster) -> None:
    with pytest.raises(Mistake, match=r"controller-2: its old member has to leave.*etcdserver: unhealthy cluster; run the same again"):
        do(cluster)


def test_an_api_server_that_is_not_there_is_left_to_a_push(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)
    cluster.lost.program("systemctl", SYSTEMCTL.replace("loaded=loaded;", "loaded=loaded; case $unit in kube*) loaded=not-found ;; esac;"))

    do(cluster)

    assert cluster.told[-1] == "controller-2: no API server runs there; ./inv push brings what it lacks"
