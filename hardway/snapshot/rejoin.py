"""Puts one member of etcd back that has lost its data, while the others serve: as a learner, which votes once it has caught up.

A member without its data is not started again, for it has forgotten how it voted: it leaves, and another one joins in its place.
https://etcd.io/docs/v3.6/op-guide/runtime-configuration/ has the order. Cut short anywhere and run again, it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from hardway.components import etcd, kube_apiserver
from hardway.desired import Answer, Component
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Observed
from hardway.push import wait
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.remote.lock import Held
from hardway.snapshot.member import ask
from hardway.waiting import answer, told, until

Tell = Callable[[str], None]

AT_ONCE = 16  # hosts
PAUSE = 0.5  # seconds between two questions
TOLD = 10  # seconds between two lines about what is waited for
AGREED = 60  # seconds until members that serve take a change of their number: they have to know each other for five
CAUGHT_UP = 900  # seconds that a member's data may take to come: etcd holds 2 GiB at most, unless told otherwise
FEWEST = 3  # members of which one can be missed
RESTORE = "put a snapshot back on all members: ./inv etcd.restore FILE --yes"
AGAIN = "run the same again and it goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoined:
    """A member that is back."""

    member: etcd.Member
    kept: str = ""  # where what it had before lies, if it had anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The host of the member that comes back, and another one through whose member the cluster is asked; all controllers are locked."""

    cluster: Cluster
    host: Host
    other: Host
    held: Mapping[str, Held]
    tell: Tell

    def call(self, function: str, *words: str) -> str:
        """Call a function of member.sh."""
        for lock in self.held.values():
            lock.check()
        return self.cluster.machine(self.host).run(*ask(function, *words)).strip()

    @property
    def member(self) -> etcd.Member | None:
        """What the others list for this host."""
        listed = etcd.membership(self.cluster, self.other)
        return next((one for one in listed if etcd.peer(self.host) in one.peers or one.name == self.host.name), None)

    def change(self, path: str, body: Mapping[str, object]) -> str | None:
        """Ask for a change of the membership; None if it was made, else why not."""
        for lock in self.held.values():
            lock.check()
        said = self.cluster.etcd(self.other, f"/v3/cluster/member/{path}", body)
        return None if said.status == 200 else _reason(said)

    def wait(self, what: str, why_not: Callable[[], str | None], within: float) -> None:
        """Ask until it is so, and tell meanwhile why it is not; a Mistake with the last reason if it is not in time."""
        asked = told(partial(answer, why_not), lambda why: self.tell(f"{self.host.name}: {what}: {why}"), every=TOLD, after=TOLD)
        why = until(asked, within=within, pause=PAUSE)
        if why:
            raise Mistake.at(self.host.name, f"{what}, and that was not so after {within:.0f} s: {why}", AGAIN)


def rejoin(cluster: Cluster, name: str, now: datetime, tell: Tell, *, yes: bool) -> Rejoined:
    """Put the member on a host back; `yes`: also if it has data, which is kept aside."""
    host, others = _chosen(cluster.inventory, name)
    with cluster.lock((host, *others), f"rejoin {name}") as held:
        seen = _observe(cluster, (host, *others))
        _refuse_restore(seen)
        if etcd.COMPONENT.unit not in seen[host].units:
            raise Mistake.at(name, "etcd is not installed there", "run ./inv push first")
        _refuse_unwell(cluster, host, others)
        _refuse_strangers(cluster, others[0])
        place = Place(cluster=cluster, host=host, other=others[0], held=held, tell=tell)
        begun, member = place.call("begun"), place.member
        if not begun and _well(place, member):
            raise Mistake.at(name, "its member is well: there is nothing to mend")
        this = begun or f"{now:%Y%m%dT%H%M%SZ}"
        kept = _put_back(place, member, this, begun=bool(begun), yes=yes)
        _gates(place, etcd.COMPONENT)
        if seen[host].runs(kube_apiserver.COMPONENT.unit):
            _gates(place, kube_apiserver.COMPONENT)
        else:
            tell(f"{name}: no API server runs there; ./inv push brings what it lacks")
        back = place.member
    if back is None or back.learner:  # somebody else has changed it since
        raise Mistake.at(name, "its member does not vote", AGAIN)
    return Rejoined(member=back, kept=kept)


def _put_back(place: Place, member: etcd.Member | None, this: str, *, begun: bool, yes: bool) -> str:
    """From whatever is there to a member that votes; where what it had before is kept."""
    kept = ""
    if _well(place, member):
        place.tell(f"{place.host.name}: the member votes already, as {_hex(member)}")
        place.call("over")
        return kept
    data = bool(place.call("holds"))
    if data and _catches_up(place, member, yes=yes):
        place.call("resume")
    else:
        if data and not begun and not yes:
            raise _untouched(place)
        place.call("begin", this)
        kept = _replace(place, this)
    _catch_up(place)
    return kept


def _replace(place: Place, this: str) -> str:
    """The old member leaves, a learner takes its place and starts without data; where what was there is kept."""
    name = place.host.name
    place.tell(f"{name}: stopping etcd")
    kept = f"{name}:/var/lib/etcd/before-{this}" if place.call("leave", this) else ""
    member = place.member
    # A learner that has started may have acknowledged what it no longer has.
    if member and (kept or member.name or not member.learner):
        place.tell(f"{name}: its old member {_hex(member)} leaves the cluster")
        old = member.id
        place.wait("its old member has to leave", lambda: _remove(place, old), AGREED)
    place.wait("a new member has to be let in", lambda: _add(place), AGREED)
    place.tell(f"{name}: a new member {_hex(place.member)} is let in as a learner; starting it")
    place.call("join")
    return kept


def _remove(place: Place, old: int) -> str | None:
    """Take a member out, unless it is already: an answer may have been lost."""
    member = place.member
    return None if member is None or member.id != old else place.change("remove", {"ID": str(old)})


def _add(place: Place) -> str | None:
    """Let a learner in, unless one is already: two would be one too many."""
    return None if place.member else place.change("add", {"peerURLs": [etcd.peer(place.host)], "isLearner": True})


def _catch_up(place: Place) -> None:
    """Wait until the learner has what the others have, and let it vote."""
    name = place.host.name
    place.wait("its member has to join; etcd's journal there says more", lambda: _arrived(place), CAUGHT_UP)
    place.call("over")  # before it votes: from here on its data is its own, and another loss another matter
    place.tell(f"{name}: the learner has joined")
    place.wait("its member has to catch up", lambda: _promote(place), CAUGHT_UP)
    place.tell(f"{name}: it has caught up and votes")


def _arrived(place: Place) -> str | None:
    """None once the unit is up with the member that the others list."""
    state = place.call("state")
    if state != "active":
        return f"etcd is {state}; if it never comes, ./inv etcd.rejoin {place.host.name} --yes begins anew"
    return None if _is_itself(place, place.member) else "etcd there is another member than the others list"


def _promote(place: Place) -> str | None:
    """Let the learner vote, unless it does."""
    member = place.member
    if member is None:
        return "it is not listed any more"
    return place.change("promote", {"ID": str(member.id)}) if member.learner else None


def _well(place: Place, member: etcd.Member | None) -> bool:
    return member is not None and not member.learner and answer(partial(etcd.member_healthy, place.cluster, place.host)) is None


def _is_itself(place: Place, member: etcd.Member | None) -> bool:
    """Whether what answers there is the member that the others list."""
    try:
        return member is not None and etcd.status(place.cluster, place.host).member == member.id
    except Mistake:
        return False


def _catches_up(place: Place, member: etcd.Member | None, *, yes: bool) -> bool:
    """Whether the data there is that of a learner on its way; with `yes` it has to answer, so that one that never comes is made anew."""
    return member is not None and member.learner and bool(member.name) and (not yes or _is_itself(place, member))


def _untouched(place: Place) -> Mistake:
    """Data of a member that is not up may be good, but for what a host has made that booted while this was under way."""
    what = "etcd's data is there (/var/lib/etcd/member), and its member is not well"
    step = "look at its journal, ./inv push starts one that is stopped; or add --yes to keep that data aside and begin without"
    return Mistake.at(place.host.name, f"{what}: {_why(place.cluster, place.host) or 'the others do not list it as one that votes'}", step)


def _chosen(inventory: Inventory, name: str) -> tuple[Host, tuple[Host, ...]]:
    """The host of that name and the other controllers."""
    controllers = inventory.on("controller")
    names = ", ".join(host.name for host in controllers)
    host = next((host for host in controllers if host.name == name), None)
    if host is None:
        raise Mistake.at(name, "is no controller, so it has no member of etcd", f"name one of {names}")
    if len(controllers) < FEWEST:
        what = f"etcd has {len(controllers)} member{'s' if len(controllers) > 1 else ''}, which cannot lose one and go on"
        raise Mistake.at(name, what, RESTORE)
    return host, tuple(one for one in controllers if one != host)


def _observe(cluster: Cluster, hosts: tuple[Host, ...]) -> dict[Host, Observed]:
    units = (etcd.COMPONENT.unit, kube_apiserver.COMPONENT.unit)
    return each(hosts, lambda host: cluster.machine(host).observe(frozenset(), units), AT_ONCE)


def _refuse_restore(seen: Mapping[Host, Observed]) -> None:
    marked = ", ".join(host.name for host, one in seen.items() if one.restoring)
    if marked:
        step = "run the same ./inv etcd.restore again, or ./inv etcd.revert --yes"
        raise Mistake.at(marked, "a restore of etcd is under way or was cut short", step)


def _refuse_unwell(cluster: Cluster, host: Host, others: tuple[Host, ...]) -> None:
    """The others have to be a quorum before, between and after; and etcd takes nobody in while one of them is away."""
    whys = each(others, partial(_why, cluster), AT_ONCE)
    wrong = {one: why for one, why in whys.items() if why}
    if not wrong:
        return
    quorum = len(others) - len(wrong) > (len(others) + 1) // 2
    left = "etcd takes no member in while another is away" if quorum else f"without it and {host.name} there is no quorum"
    step = f"see that it serves again; if that cannot be, {RESTORE}"
    raise Mistake(
        *(Finding(where=one.name, what=f"its member is not well ({why}), and {left}", next_step=step) for one, why in wrong.items())
    )


def _refuse_strangers(cluster: Cluster, other: Host) -> None:
    """A new member has to name all others exactly, and knows those of the inventory."""
    ours = {etcd.peer(host): host.name for host in cluster.inventory.on("controller")}
    strange = [one for one in etcd.membership(cluster, other) if one.name not in ours.values() and not set(one.peers) & set(ours)]
    if strange:
        names = ", ".join(one.name or " ".join(one.peers) for one in strange)
        raise Mistake.at("etcd", f"it has members that are not in the inventory: {names}", "take them out by etcdctl member remove")


def _why(cluster: Cluster, host: Host) -> str | None:
    return answer(partial(etcd.member_healthy, cluster, host))


def _gates(place: Place, component: Component) -> None:
    gates = component.roll.gates
    seconds = sum(wait(place.cluster, gate, place.host) for gate in gates)
    place.tell(f"{place.host.name}: {component.name}: {', '.join(gate.name for gate in gates)} after {seconds:.1f} s")


def _reason(said: Answer) -> str:
    """What etcd's gateway says of a change that it does not make."""
    try:
        return str(said.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"etcd answers with {said.status}"


def _hex(member: etcd.Member | None) -> str:
    """A member's id as etcd logs it."""
    return f"{member.id:x}" if member else "unknown"
