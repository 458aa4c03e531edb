"""etcd: the store; one member on each controller."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from hardway.components.daemon import Draft, daemon, next_minor, tool, unit, user
from hardway.desired import Component, File, Gate, Lead, Live, Needs, Pickup, Roll, Serving, Template, Trace, Use
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Facts
from hardway.waiting import until

QUIET = 0.2  # seconds that a hand-over waits at most for what was asked before, and for each member to know its new leader
PAGE = 500  # keys asked for at a time
CLIENT_PORT = 2379
PEER_PORT = 2380
DATA = PurePosixPath("/var/lib/etcd")
INITIAL_CLUSTER = PurePosixPath("/etc/etcd/initial-cluster.env")
STOP = PurePosixPath("/etc/etcd/stop.sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One member's own view of the cluster."""

    cluster: int  # members of one cluster agree on it; a restore makes another
    member: int
    revision: int
    leader: int  # 0: it knows of none
    term: int
    index: int  # the raft index that it has applied
    version: str
    errors: tuple[str, ...]
    learner: bool = False  # it follows and does not vote


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member, as the others list it."""

    id: int
    name: str  # empty until it has started
    peers: tuple[str, ...]  # URLs at which the others reach it
    learner: bool


def servers(inventory: Inventory) -> str:
    """Every member, as `--etcd-servers` and `--endpoints` take them."""
    return ",".join(f"https://{host.address}:{CLIENT_PORT}" for host in inventory.on("controller"))


def status(live: Live, host: Host) -> Status:
    """What the member on a host says of itself."""
    answer = live.etcd(host, "/v3/maintenance/status", {})
    if answer.status != 200:
        raise Mistake.at(host.name, f"etcd answers its status request with {answer.status}")
    said = answer.json()
    return Status(
        cluster=int(said["header"]["cluster_id"]),
        member=int(said["header"]["member_id"]),
        revision=int(said["header"].get("revision", 0)),
        leader=int(said.get("leader", 0)),
        term=int(said["raftTerm"]),
        index=int(said.get("raftAppliedIndex", 0)),
        version=said["version"],
        errors=tuple(said.get("errors", ())),
        learner=bool(said.get("isLearner")),
    )


def member_healthy(live: Live, host: Host) -> str | None:
    """None if the member serves linearizable reads, knows a leader, votes and has no alarm; else why not."""
    health = live.etcd(host, "/health")
    if health.status != 200 or health.json().get("health") != "true":
        return f"/health says {health.status} {health.body.decode(errors='replace').strip()}"
    own = status(live, host)
    if not own.leader:
        return "it knows of no leader"
    if own.errors:
        return f"alarms: {', '.join(own.errors)}"
    if own.learner:
        return f"it is a learner and does not vote yet; ./inv etcd.rejoin {host.name} ends that"
    return None


def members(live: Live, host: Host) -> tuple[str, ...]:
    """Who belongs to the cluster, by the member on a host; a learner or one that has never started is marked so."""
    listed = _listed(live, host, linearizable=False)
    return tuple(sorted(f"{member.name or 'not started'}{' (learner)' if member.learner else ''}" for member in listed))


def membership(live: Live, host: Host) -> tuple[Member, ...]:
    """Who belongs to the cluster, read linearizably through the member on a host."""
    return _listed(live, host, linearizable=True)


def _listed(live: Live, host: Host, *, linearizable: bool) -> tuple[Member, ...]:
    answer = live.etcd(host, "/v3/cluster/member/list", {"linearizable": linearizable})
    if answer.status != 200:
        raise Mistake.at(host.name, f"etcd answers its member list with {answer.status}")
    return tuple(
        Member(id=int(one["ID"]), name=one.get("name", ""), peers=tuple(one.get("peerURLs", ())), learner=bool(one.get("isLearner")))
        for one in answer.json()["members"]
    )


def peer(host: Host) -> str:
    """Where the member on a host is reached by the others."""
    return f"https://{host.address}:{PEER_PORT}"


def value(live: Live, host: Host, key: str) -> bytes | None:
    """The raw value of a key, read linearizably through the member on a host; None if there is no such key."""
    found = _read(live, host, key.encode()).get("kvs", ())
    return base64.b64decode(found[0].get("value", "")) if found else None


def values(live: Live, host: Host, prefix: str) -> Iterator[bytes]:
    """The raw values of all keys that begin so, page by page."""
    key, end = prefix.encode(), prefix.encode()[:-1] + bytes([prefix.encode()[-1] + 1])
    while True:
        page = _read(live, host, key, range_end=base64.b64encode(end).decode(), limit=str(PAGE))
        found = page.get("kvs", ())
        yield from (base64.b64decode(one.get("value", "")) for one in found)
        if not page.get("more"):
            return
        key = base64.b64decode(found[-1]["key"]) + b"\0"


def _read(live: Live, host: Host, key: bytes, **fields: str) -> Any:
    answer = live.etcd(host, "/v3/kv/range", {"key": base64.b64encode(key).decode(), **fields})
    if answer.status != 200:
        raise Mistake.at(host.name, f"etcd answers a read with {answer.status}")
    return answer.json()


def leader(live: Live) -> Host | None:
    """The host whose member leads, if one does."""
    for host in live.inventory.on("controller"):
        try:
            own = status(live, host)
        except Mistake:
            continue
        if own.leader == own.member:
            return host
    return None


def heir(live: Live, host: Host) -> Host | None:
    """If the member on a host leads, another that is well; a Mistake if none is."""
    own = status(live, host)
    others = [other for other in live.inventory.on("controller") if other != host]
    if own.leader != own.member or not others:
        return None
    well = next((other for other in others if _is_well(live, other)), None)
    if well is None:
        raise Mistake.at(host.name, "no other member is well")
    return well


def hand_over(live: Live, host: Host, to: Host) -> None:
    """Make another member lead, between what was asked before and what will be asked.

    A leader that is just stopped leaves the API servers without etcd for seconds. One that hands over drops what is proposed from there
    until all know the next one, which is 0.1 to 0.3 s: so whoever proposes something stands still meanwhile (Lead).
    https://github.com/etcd-io/raft/blob/main/raft.go: ErrProposalDropped while there is a leadTransferee.
    """
    until(_applies(live, host), within=QUIET, pause=QUIET / 4)
    target = status(live, to).member
    answer = live.etcd(host, "/v3/maintenance/transfer-leadership", {"targetID": str(target)})
    if answer.status != 200:
        raise Mistake.at(host.name, f"etcd answers a transfer of its leadership with {answer.status}")
    for other in live.inventory.on("controller"):
        if other not in {host, to}:  # these two know, or the answer would not have come
            until(partial(_follows, live, other, target), within=QUIET, pause=QUIET / 20)


def _applies(live: Live, host: Host) -> Callable[[], str | None]:
    """None once a member has applied nothing between two questions."""
    seen = -1

    def ask() -> str | None:
        nonlocal seen
        before, seen = seen, status(live, host).index
        return None if seen == before else "it applies what it was asked"

    return ask


def _follows(live: Live, host: Host, member: int) -> str | None:
    try:
        return None if status(live, host).leader == member else "it follows another"
    except Mistake:
        return None  # nobody asks one that does not answer


def _is_well(live: Live, host: Host) -> bool:
    try:
        return member_healthy(live, host) is None
    except Mistake:
        return False


def refused(host: Host, path: PurePosixPath, old: str, new: str) -> Finding | None:
    """Changes that no file can make: of the members, or to a version that does not read what is there."""
    return _same_members(host, path, old, new) or next_minor(host, "etcd", old, new)


def _same_members(host: Host, path: PurePosixPath, old: str, new: str) -> Finding | None:
    if path != INITIAL_CLUSTER or _members(old) == _members(new):
        return None
    before = [member.partition("=")[0] for member in _members(old)]
    what = f"its etcd was made with {', '.join(before)}, and etcd's members do not change by a push"
    return Finding(where=host.name, what=what, next_step="put the controllers back as they were, or make another cluster beside this one")


def _members(text: str) -> list[str]:
    line = next((line for line in text.splitlines() if line.startswith("ETCD_INITIAL_CLUSTER=")), "")
    return sorted(member for member in line.partition("=")[2].split(",") if member)


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a controller carries of etcd."""
    return (
        user("etcd"),
        daemon("etcd"),
        tool("etcdctl"),
        tool("etcdutl"),
        File(
            path=INITIAL_CLUSTER,
            content=Template(source="templates/etcd/initial-cluster.env", values={"members": inventory.on("controller")}),
            uses=(Use(reader="etcd.service", pickup=Pickup.ONCE),),
        ),
        File(
            path=STOP,
            content=Template(source="templates/etcd/stop.sh", values={"version": inventory.versions.etcd, "port": CLIENT_PORT}),
            uses=(Use(reader="etcd.service", pickup=Pickup.HANDSHAKE),),
        ),
        unit("etcd", inventory, version=inventory.versions.etcd),
    )


LEAD = Lead(of=leader, heir=heir, hand_over=hand_over, asked_by="kube-apiserver")

COMPONENT = Component(
    name="etcd",
    leaves=(Trace("directory", str(DATA)),),
    on=("controller",),
    files=files,
    programs=("etcd", "etcdctl", "etcdutl"),
    serves=(Serving(certificate="etcd-server", port=CLIENT_PORT), Serving(certificate="etcd-peer", port=PEER_PORT)),
    needs=lambda _: Needs(
        ports=(CLIENT_PORT, PEER_PORT),
        memory=100,
        # Its log, not `member`: that is made by a member without data too, before it sees that it may not begin.
        # https://github.com/etcd-io/etcd/blob/main/server/etcdserver/bootstrap.go
        keeps=(DATA / "member/wal",),
        rejoined="put that member back, while the others serve: ./inv etcd.rejoin {host.name}",
        restored="put a snapshot back on all members: ./inv etcd.restore FILE --yes; ./inv etcd.snapshot takes one if a quorum is left",
        new=(DATA,),
    ),
    roll=Roll(gates=(Gate(name="healthy", ask=member_healthy, within=60),), lead=LEAD),
    version=lambda live, host: status(live, host).version,
    leader=lambda live: found.name if (found := leader(live)) else None,
    guard=refused,
)
