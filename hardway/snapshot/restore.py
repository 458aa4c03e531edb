"""Puts a snapshot in place of what etcd holds, on all members at once; or back what it held before, as long as that is not over.

Everything that can fail does so before anything stops: the file, its keys, the space, the new data, which is made beside the old.
From the first stop to the last gate each host carries a mark, so that a push refuses it and a status tells. Run again, it goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hardway.components import ALL, etcd
from hardway.desired import Blob, Component
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Observed
from hardway.push import wait
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import attempt, each
from hardway.remote.lock import Held
from hardway.remote.protocol import Action, Apply
from hardway.snapshot.member import ask
from hardway.snapshot.note import Note, refused, verified
from hardway.state import State

Tell = Callable[[str], None]

AT_ONCE = 16  # hosts
SKIP = 1_000_000_000  # revisions: more than anybody can have seen since the snapshot, so that no cache takes the old for the new
SPARE = 256 << 20  # bytes beside the snapshot and the data made of it: etcd's log
REACHED = "etcd-revision"  # in state/: where the last restore went
AGAIN = "run the same again and it goes on; ./inv etcd.revert --yes puts the old data back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """One restore, as the mark on each host describes it."""

    id: str
    sha256: str
    skip: int  # revisions
    name: str  # of the snapshot

    @classmethod
    def parse(cls, text: str) -> Restore:
        """Read what `words` wrote."""
        one, sha256, skip, name = text.split()
        return cls(id=one, sha256=sha256, skip=int(skip), name=name)

    @property
    def words(self) -> tuple[str, ...]:
        return self.id, self.sha256, str(self.skip), re.sub(r"[^\w.-]", "_", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The controllers, all of them locked."""

    cluster: Cluster
    hosts: tuple[Host, ...]
    held: Mapping[str, Held]
    tell: Tell

    def run(self, function: str, *words: str) -> dict[Host, str]:
        """Call a function of member.sh on each."""
        return self.each(lambda host: self.call(host, function, *words))

    def call(self, host: Host, function: str, *words: str) -> str:
        self.held[host.name].check()
        return self.cluster.machine(host).run(*ask(function, *words))

    def each(self, do: Callable[[Host], object]) -> dict[Host, str]:
        return {host: str(answer) for host, answer in each(self.hosts, do, AT_ONCE).items()}

    def observe(self) -> dict[Host, Observed]:
        units = [component.unit for component in (etcd.COMPONENT, *clients())]
        return each(self.hosts, lambda host: self.cluster.machine(host).observe(frozenset(), units), AT_ONCE)

    def stop(self) -> None:
        """First whoever writes, then all members."""
        for components in ([*reversed(clients())], [etcd.COMPONENT]):
            self.tell(f"stopping {', '.join(component.name for component in components)} on every controller")
            self._act(self.hosts, *(Action(verb="stop", unit=component.unit) for component in components))
        for host, seen in self.observe().items():
            running = [unit for unit, state in seen.units.items() if state.active not in {"inactive", "failed"}]
            if running:
                raise Mistake.at(host.name, f"{', '.join(running)} did not stop", AGAIN)

    def start(self) -> None:
        """All members together, then what stands on them, each behind its gates."""
        down = [host for host, seen in self.observe().items() if not seen.runs(etcd.COMPONENT.unit)]
        self._act(down, Action(verb="restart-no-block", unit=etcd.COMPONENT.unit))  # none is ready before a quorum is
        self._pass(etcd.COMPONENT)
        api, *others = clients()
        for components in ((api,), others):  # the others wait for leases, and can do that together
            self._act(self.hosts, *(Action(verb="start", unit=component.unit) for component in components))
            for component in components:
                self._pass(component)

    def _act(self, hosts: Iterable[Host], *actions: Action) -> None:
        each(hosts, lambda host: self.cluster.machine(host).apply(Apply(actions=actions)), AT_ONCE)

    def _pass(self, component: Component) -> None:
        gates = component.roll.gates
        seconds = each(self.hosts, lambda host: sum(wait(self.cluster, gate, host) for gate in gates), AT_ONCE)
        self.tell(f"{component.name}: {', '.join(gate.name for gate in gates)} on every controller after {max(seconds.values()):.1f} s")


def clients() -> tuple[Component, ...]:
    """What runs on a controller beside etcd: the API server, and what needs that."""
    return tuple(component for component in ALL if component.on == ("controller",) and component is not etcd.COMPONENT)


def restore(cluster: Cluster, snapshot: Path, state: State, now: datetime, tell: Tell) -> tuple[str, ...]:
    """Restore a snapshot on every member; where each keeps its old data."""
    note = verified(snapshot)
    wrong = refused(note, snapshot, cluster.inventory.cluster, cluster.credentials.encryption_keys)
    if wrong:
        raise Mistake(*wrong)
    hosts = cluster.inventory.on("controller")
    with cluster.lock(hosts, f"restore {snapshot.name}") as held:
        members = Members(cluster=cluster, hosts=hosts, held=held, tell=tell)
        seen = members.observe()
        this = _begun(seen)
        if this and this.sha256 != note.sha256:
            raise Mistake.at(str(snapshot), f"a restore of {this.name} is not over", f"name that one, or first {AGAIN.partition('; ')[2]}")
        if this is None:
            skip = _skip(members, note, state)
            this = Restore(id=f"{now:%Y%m%dT%H%M%SZ}", sha256=note.sha256, skip=skip, name=snapshot.name)
            _prepare(members, seen, snapshot, note, this)
            state.write(REACHED, f"{note.revision + skip}\n".encode())
        with _told():
            members.run("mark", *this.words)
            if "nowhere\n" in members.run("stands", this.id).values():  # its disk was replaced in between
                _stage(members, snapshot, note, this)
            if set(members.run("stands", this.id).values()) != {"swapped\n"}:
                members.stop()
                members.run("swap", this.id)
            members.start()
            _proved(members, note, this)
            members.run("unmark", this.id, this.sha256)
    return tuple(f"{host.name}:/var/lib/etcd/before-{this.id}" for host in hosts)


def revert(cluster: Cluster, tell: Tell) -> None:
    """Give up a restore that is not over: every member has its old data again."""
    hosts = cluster.inventory.on("controller")
    with cluster.lock(hosts, "give up a restore") as held:
        members = Members(cluster=cluster, hosts=hosts, held=held, tell=tell)
        this = _begun(members.observe())
        if this is None:
            raise Mistake.at("etcd.revert", "no restore is under way", "one that is over is undone by a snapshot taken before it")
        with _told():
            members.run("mark", *this.words)
            members.stop()
            members.run("back", this.id)
            members.start()
            members.run("unmark", this.id, this.sha256)


@contextmanager
def _told() -> Iterator[None]:
    """Add to whatever stops a restore half-way how it goes on."""
    try:
        yield
    except Mistake as mistake:
        raise Mistake(*mistake.findings, Finding(where="etcd.restore", what="it is not over", next_step=AGAIN)) from mistake


def _begun(seen: Mapping[Host, Observed]) -> Restore | None:
    """The restore that some host says is under way."""
    marks = {one.restoring for one in seen.values() if one.restoring}
    if len(marks) > 1:
        raise Mistake.at("etcd.restore", f"hosts are marked for different restores: {'; '.join(sorted(marks))}", "look at them by hand")
    return Restore.parse(marks.pop()) if marks else None


def _prepare(members: Members, seen: Mapping[Host, Observed], snapshot: Path, note: Note, this: Restore) -> None:
    """Make the new data on every member, beside the old one that still serves; if that fails anywhere, it is nowhere."""
    need = 2 * note.size + SPARE
    short = [host.name for host, one in seen.items() if one.facts.disk_free < need]
    if short:
        raise Mistake.at(", ".join(short), f"a restore needs {need >> 20} MiB under /var/lib", "make room; nothing was stopped")
    try:
        _stage(members, snapshot, note, this)
    except BaseException:
        attempt(members.hosts, lambda host: members.call(host, "unstage", this.id, note.sha256), AT_ONCE)
        raise


def _stage(members: Members, snapshot: Path, note: Note, this: Restore) -> None:
    blob = Blob(sha256=note.sha256, size=note.size, local=snapshot)
    members.tell(f"sending {note.size / 1e6:.1f} MB to every member, and making its new data there")
    members.each(lambda host: members.cluster.machine(host).store([blob]))
    for host, said in members.run("check", note.sha256).items():
        _same(host, json.loads(said), note)
    initial = initial_cluster(members.cluster.inventory)
    members.each(lambda host: members.call(host, "stage", this.id, note.sha256, host.name, etcd.peer(host), initial, str(this.skip)))


def _same(host: Host, found: Mapping[str, object], note: Note) -> None:
    if (found["revision"], found["hash"]) != (note.revision, note.hash):
        raise Mistake.at(host.name, "etcdutl finds something else in the snapshot than its note says", "take another one")


def _skip(members: Members, note: Note, state: State) -> int:
    """How many revisions to leave out, so that what comes is newer than all that anybody has seen.

    Restored again, a snapshot has to go beyond where it went the first time, also if all members have lost their data since.
    """

    def newest(host: Host) -> int:
        try:
            return etcd.status(members.cluster, host).revision
        except Mistake:
            said = members.call(host, "revision")
            return int(json.loads(said)["revision"]) if said.strip() else 0

    reached = int(state.read(REACHED)) if state.path(REACHED).exists() else 0
    seen = max(reached, *each(members.hosts, newest, AT_ONCE).values())
    return max(seen - note.revision, 0) + SKIP


def _proved(members: Members, note: Note, this: Restore) -> None:
    """One cluster, beyond every revision that was seen; and API servers that can read what is encrypted."""
    states = each(members.hosts, lambda host: etcd.status(members.cluster, host), AT_ONCE)
    if len({state.cluster for state in states.values()}) > 1:
        raise Mistake.at("etcd", "its members do not belong to one cluster")
    for host, state in states.items():
        if state.revision < note.revision + this.skip:
            raise Mistake.at(host.name, f"etcd is at revision {state.revision}, {note.revision + this.skip} was restored")
    for host in members.hosts:
        answer = members.cluster.api("/api/v1/secrets?limit=500", host=host)
        if answer.status != 200:
            raise Mistake.at(host.name, f"its API server cannot read the Secrets: it answers {answer.status}")


def initial_cluster(inventory: Inventory) -> str:
    """Every member, as etcd and etcdutl take them."""
    return ",".join(f"{host.name}={etcd.peer(host)}" for host in inventory.on("controller"))
