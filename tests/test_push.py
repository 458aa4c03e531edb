"""A push: together at first, one host at a time later, a red gate stops it, what is owed is settled after the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest

from hardway.components import etcd
from hardway.desired import Answer, Blob, Component, Content, File, Gate, Lead, Live, Manifest, Part, Pickup, Roll, Secret, Text, Use
from hardway.errors import Finding, Mistake, Retreat, Unready
from hardway.inventory import Host, Inventory, load
from hardway.observed import Facts, Observed, UnitState
from hardway.plan import Change, Plan, compare
from hardway.push import Survey, push, request, roll, settled, wait
from hardway.remote.cluster import Cluster
from hardway.remote.protocol import Action, Apply, Move

INVENTORY = load(Path(__file__).parent.parent / "inventory.yaml")
CONTROLLERS = INVENTORY.on("controller")
FACTS = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="b", clock=0, disk_free=1 << 40, memory=1 << 30)
UP = UnitState(active="active", sub="running", enabled=True, invocation="1", restarts=0)
CONFIG = File(path=PurePosixPath("/etc/x/config"), content=Text("new"), uses=(Use(reader="x.service", pickup=Pickup.RESTART),))


@dataclasses.dataclass
class FakeMachine:
    name: str
    seen: list[str]

    def store(self, blobs: Sequence[Blob]) -> None:
        self.seen.append(f"{self.name} store {len(blobs)}")

    def apply(self, change: Apply) -> None:
        self.seen.append(f"{self.name} apply {' '.join(action.verb for action in change.actions)}")

    def settle(self, units: Sequence[str], **_: int) -> None:
        self.seen.append(f"{self.name} settle {' '.join(units)}")

    def retract(self, unit: str) -> None:
        self.seen.append(f"{self.name} retract {unit}")


@dataclasses.dataclass
class FakeCluster:
    seen: list[str] = dataclasses.field(default_factory=list)
    inventory: Inventory = INVENTORY

    def machine(self, host: Host) -> FakeMachine:
        return FakeMachine(host.name, self.seen)

    def apply(self, manifest: Manifest, *, dry_run: bool, host: Host) -> Answer:
        assert not dry_run
        self.seen.append(f"{host.name} puts {manifest.name}")
        return Answer(status=200, body=b"{}")

    @contextmanager
    def lock(self, hosts: Sequence[Host], doing: str) -> Iterator[None]:
        self.seen.append(f"lock {len(hosts)} for {doing}")
        yield
        self.seen.append("unlock")

    @contextmanager
    def paused(self, hosts: Sequence[Host], unit: str) -> Iterator[frozenset[Host]]:
        self.seen.append(f"{unit} stands still on {len(hosts)}")
        yield frozenset(hosts)
        self.seen.append(f"{unit} goes on")


def component(ask: Any = lambda _live, _host: None, within: float = 0, **roll: Any) -> Component:
    gates = (Gate(name="open", ask=ask, within=within),)
    return Component(name="x", on=("controller",), files=lambda *_: (), roll=Roll(gates=gates, **roll))


def found(unit: UnitState | None, file: File[Content] = CONFIG) -> Survey:
    part = Part(component="x", unit="x.service", files=(file,))
    observed = Observed(facts=FACTS, units={"x.service": unit} if unit else {})
    plans = tuple(compare(host, [part], observed) for host in CONTROLLERS)
    return Survey(observed={h.name: observed for h in CONTROLLERS}, parts={}, plans=plans, objects=(), texts={})


def pushed(one: Component, survey: Survey, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster | None = None) -> list[str]:
    cluster = cluster or FakeCluster()
    monkeypatch.setattr(roll, "ALL", (one,))
    try:
        push(cast("Cluster", cluster), survey, lambda _: None)
    except Mistake as mistake:
        cluster.seen.append(f"stopped: {mistake}")
    return cluster.seen


def test_members_that_never_ran_start_together_and_without_waiting_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = pushed(component(), found(None), monkeypatch)

    assert seen[0] == "lock 3 for push"
    assert sorted(seen[1:4]) == [f"controller-{n} apply enable restart-no-block" for n in (1, 2, 3)]
    assert sorted(seen[4:7]) == [f"controller-{n} settle x.service" for n in (1, 2, 3)]
    assert seen[7:] == ["unlock"]


def test_members_that_run_go_one_at_a_time_each_settled_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = pushed(component(), found(UP), monkeypatch)

    expected = [f"controller-{n} {do}" for n in (1, 2, 3) for do in ("apply restart", "settle x.service")]
    assert seen[1:-1] == expected


def test_what_is_in_the_cluster_alone_is_put_there_before_anybody_waits_for_any_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(live: Live, host: Host) -> str | None:
        cast("FakeCluster", live).seen.append(f"{host.name} is asked")
        return None

    def put(name: str) -> Change:
        return Change(
            component=name, action="create", what=name, why="", manifest=Manifest(object={"kind": "X", "metadata": {"name": name}})
        )

    gates = Roll(gates=(Gate(name="up", ask=asked, within=0),))
    survey = Survey(observed={}, parts={}, plans=(), objects=(put("one"), put("two")), texts={})
    cluster = FakeCluster()
    monkeypatch.setattr(roll, "ALL", tuple(Component(name=name, roll=gates) for name in ("one", "two", "unchanged")))
    push(cast("Cluster", cluster), survey, lambda _: None)

    puts = ["controller-1 puts x/one", "controller-1 puts x/two"]
    assert cluster.seen == ["lock 0 for push", *puts, "controller-1 is asked", "controller-1 is asked", "unlock"]


def test_what_is_in_the_cluster_alone_and_does_not_come_up_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Change(component="x", action="create", what="x", why="", manifest=Manifest(object={"kind": "X", "metadata": {"name": "x"}}))
    survey = Survey(observed={}, parts={}, plans=(), objects=(change,), texts={})
    gates = Roll(gates=(Gate(name="up", ask=lambda *_: "no Pod is ready", within=0),))
    monkeypatch.setattr(roll, "ALL", (Component(name="x", roll=gates),))

    with pytest.raises(Unready, match="no Pod is ready"):
        push(cast("Cluster", FakeCluster()), survey, lambda _: None)


def lead(
    seen: list[str], heir: Any = lambda _live, host: CONTROLLERS[2] if host == CONTROLLERS[0] else None, of: Host = CONTROLLERS[0]
) -> Lead:
    return Lead(
        of=lambda _: of,
        heir=heir,
        hand_over=lambda _live, host, to: seen.append(f"{host.name} hands over to {to.name}"),
        asked_by="x",
    )


def test_the_leader_goes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = pushed(component(lead=lead([])), found(UP), monkeypatch)

    assert [line.split()[0] for line in seen if "apply" in line] == ["controller-2", "controller-3", "controller-1"]


def test_an_instance_that_leads_hands_over_right_before_it_is_restarted_and_while_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    seen = pushed(component(lead=lead(cluster.seen)), found(UP), monkeypatch, cluster)

    at = seen.index("x.service stands still on 3")
    assert seen[at : at + 4] == [
        "x.service stands still on 3",
        "controller-1 hands over to controller-3",
        "x.service goes on",
        "controller-1 apply restart",
    ]
    assert sum("stands still" in line for line in seen) == 1
    assert sorted(pushed(component(lead=lead([])), found(None), monkeypatch)) == sorted(pushed(component(), found(None), monkeypatch))


def test_a_lead_that_cannot_be_handed_over_does_not_stop_a_push(monkeypatch: pytest.MonkeyPatch) -> None:
    def heir(_live: Live, host: Host) -> Host | None:
        raise Mistake.at(host.name, "no other member is well")

    led = component(lead=lead([], heir, of=CONTROLLERS[-1]))  # which goes last without it too
    assert pushed(led, found(UP), monkeypatch) == pushed(component(), found(UP), monkeypatch)


def test_a_red_gate_stops_the_run_and_leaves_the_rest_and_the_debt(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: Live, host: Host) -> str | None:
        return "not ready" if host == CONTROLLERS[1] else None

    seen = pushed(component(ask), found(UP), monkeypatch)

    assert [line for line in seen if "controller-3" in line] == []
    assert "controller-2 settle x.service" not in seen
    assert "controller-2 retract x.service" in seen
    assert "stopped: controller-2: gate open: still closed after 0 s: not ready; the hosts after it were left as they were" in seen


def test_an_instance_whose_gate_stays_closed_goes_back_and_how_it_does_then_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ill = {"controller-2"}

    def ask(_: Live, host: Host) -> str | None:
        return "not ready" if host.name in ill and f"{host.name} apply restart" in cluster.seen else None

    class Retreating(FakeMachine):
        def retract(self, unit: str) -> None:
            super().retract(unit)
            ill.discard(self.name)
            raise Retreat(Finding(where=self.name, what=f"{unit}: | giving up"))

    cluster = FakeCluster()
    monkeypatch.setattr(FakeCluster, "machine", lambda self, host: Retreating(host.name, self.seen))
    monkeypatch.setattr(roll, "ALL", (component(ask),))
    with pytest.raises(Mistake) as caught:
        push(cast("Cluster", cluster), found(UP), lambda _: None)

    assert cluster.seen[-3:] == [f"controller-2 {do}" for do in ("apply restart", "retract x.service", "settle x.service")]
    assert [finding.what for finding in caught.value.findings] == [
        "still closed after 0 s: not ready",
        "x.service: | giving up",
        "x went back to its files before, and is well again; no other host was changed after it",
    ]


@pytest.mark.parametrize("ill_also_with_the_old", [False, True])
def test_an_instance_that_does_not_start_and_went_back_is_asked_how_it_does(
    ill_also_with_the_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Retreating(FakeMachine):
        def apply(self, change: Apply) -> None:
            super().apply(change)
            raise Retreat(Finding(where=self.name, what="x.service: restart failed"))

    def ask(_: Live, host: Host) -> str | None:
        return "no" if ill_also_with_the_old and f"{host.name} apply restart" in cluster.seen else None

    cluster = FakeCluster()
    monkeypatch.setattr(FakeCluster, "machine", lambda self, host: Retreating(host.name, self.seen))
    monkeypatch.setattr(roll, "ALL", (component(ask),))
    with pytest.raises(Mistake) as caught:
        push(cast("Cluster", cluster), found(UP), lambda _: None)

    restart, then = (finding.what for finding in caught.value.findings)
    assert restart == "x.service: restart failed"
    assert ("is not well with them either" if ill_also_with_the_old else "is well again") in then
    assert ("controller-1 settle x.service" in cluster.seen) is not ill_also_with_the_old
    assert not [line for line in cluster.seen if "controller-2" in line]


def test_none_is_restarted_while_another_that_is_not_part_of_it_is_ill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three members one may be missing: a second would be the end of the quorum."""

    def ask(_: Live, host: Host) -> str | None:
        return "no leader" if host == CONTROLLERS[2] else None

    survey = found(UP)
    seen = pushed(component(ask), dataclasses.replace(survey, plans=survey.plans[:2]), monkeypatch)

    assert [line for line in seen if "apply" in line] == []
    assert seen[-1].startswith("stopped: controller-3: x is not well there, so no other is restarted: open: no leader")


def test_the_one_that_is_ill_goes_first_because_the_push_may_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ill = {CONTROLLERS[2]}

    def ask(_: Live, host: Host) -> str | None:
        return "no leader" if host in ill else None

    class Mending(FakeMachine):
        def apply(self, change: Apply) -> None:
            super().apply(change)
            ill.discard(next(host for host in CONTROLLERS if host.name == self.name))

    monkeypatch.setattr(FakeCluster, "machine", lambda self, host: Mending(host.name, self.seen))
    seen = pushed(component(ask), found(UP), monkeypatch)

    assert [line.split()[0] for line in seen if "apply" in line] == ["controller-3", "controller-1", "controller-2"]


def test_files_that_restart_nothing_reach_members_none_of_which_is_well_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when every certificate has expired: none becomes well before the others."""
    cluster = FakeCluster()

    def ask(_: Live, host: Host) -> str | None:
        applied = {line.split()[0] for line in cluster.seen if "apply" in line}
        return None if len(applied) == len(CONTROLLERS) else f"{host.name} has lost its peers"

    monkeypatch.setattr(roll, "ALL", (component(ask, within=5),))
    leaf = dataclasses.replace(CONFIG, uses=(Use(reader="x.service", pickup=Pickup.HANDSHAKE),))
    push(cast("Cluster", cluster), found(UP, leaf), lambda _: None)

    assert sorted(cluster.seen[1:4]) == [f"controller-{n} apply " for n in (1, 2, 3)]
    assert sorted(cluster.seen[4:7]) == [f"controller-{n} settle x.service" for n in (1, 2, 3)]


def test_restarts_go_one_at_a_time_even_if_none_looks_well_since_that_may_be_our_own_view(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = pushed(component(lambda _live, _host: "no route to host"), found(UP), monkeypatch)

    assert [line.split()[0] for line in seen if "apply" in line] == ["controller-1"]
    assert seen[-1].startswith("stopped: controller-1: gate open: still closed")


def test_a_gate_that_waits_for_a_change_says_nothing_of_who_is_well_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a certificate was issued that no instance serves yet."""
    cluster = FakeCluster()

    def ask(_: Live, host: Host) -> str | None:
        return None if f"{host.name} apply " in cluster.seen else "it serves the old one"

    one = component()
    gates = (*one.roll.gates, Gate(name="certificate", ask=ask, within=0, arrival=True))
    monkeypatch.setattr(roll, "ALL", (dataclasses.replace(one, roll=Roll(gates=gates)),))
    leaf = dataclasses.replace(CONFIG, uses=(Use(reader="x.service", pickup=Pickup.HANDSHAKE),))
    push(cast("Cluster", cluster), found(UP, leaf), lambda _: None)

    assert cluster.seen[1:-1] == [f"controller-{n} {do}" for n in (1, 2, 3) for do in ("apply ", "settle x.service")]


def test_nothing_to_do_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    survey = dataclasses.replace(found(UP), plans=tuple(Plan(host=host, changes=()) for host in CONTROLLERS))

    assert pushed(component(), survey, monkeypatch) == []


def test_a_push_that_died_is_finished_before_anything_else_is_asked() -> None:
    cluster = FakeCluster()
    observed = Observed(facts=FACTS, units={"x.service": UP}, died=True)
    plans = tuple(compare(host, [], observed) for host in CONTROLLERS[:1])
    survey = dataclasses.replace(found(UP), plans=plans)

    assert [change.action for change in plans[0].changes] == ["finish"]
    looks = iter((survey, found(UP)))
    assert settled(cast("Cluster", cluster), lambda: next(looks), lambda _: None) == found(UP)
    assert cluster.seen == ["lock 1 for finish a push", "controller-1 apply ", "unlock"]
    assert settled(cast("Cluster", cluster), lambda: found(UP), lambda _: None) == found(UP)
    assert len(cluster.seen) == 3


def test_binaries_travel_before_anything_is_applied_and_only_those_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = [
        File(path=PurePosixPath(f"/usr/local/bin/{c}"), content=Blob(sha256=c * 64, size=1, local=Path(c)), uses=CONFIG.uses) for c in "ab"
    ]
    part = Part(component="x", unit="x.service", files=tuple(blobs))
    observed = Observed(facts=FACTS, units={"x.service": UP}, stored=frozenset({"a" * 64}))
    plan = compare(CONTROLLERS[0], [part], observed)
    survey = Survey(observed={CONTROLLERS[0].name: observed}, parts={}, plans=(plan,), objects=(), texts={})

    seen = pushed(component(), survey, monkeypatch)

    assert seen[1:3] == ["controller-1 store 1", "controller-1 apply restart"]


def test_a_request_holds_what_the_plan_says_and_owes_what_it_restarts() -> None:
    secret = File(path=PurePosixPath("/etc/x/leaf.pem"), content=Secret(b"key"), uses=CONFIG.uses, owner="root:x", mode=0o640)
    plan = compare(CONTROLLERS[0], [Part(component="x", unit="x.service", files=(CONFIG, secret))], Observed(facts=FACTS))

    asked = request(plan)

    assert asked.contents == (b"new", b"key")
    assert [(str(move.path), move.mode, move.before) for move in asked.moves] == [
        ("/etc/x/config", 0o644, None),
        ("/etc/x/leaf.pem", 0o640, None),
    ]
    assert asked.actions == (Action(verb="enable", unit="x.service"), Action(verb="start", unit="x.service"))
    assert asked.owed == {"x.service"}
    assert isinstance(asked.moves[0], Move)
    assert "key" not in repr(asked)


def test_a_file_changes_only_if_it_is_still_what_the_plan_saw() -> None:
    change = Change(component="x", action="delete", what="/etc/x/old", why="", before=None)

    assert request(Plan(host=CONTROLLERS[0], changes=(change,))).removals == ()


def test_a_gate_opens_as_soon_as_its_answer_is_none() -> None:
    answers = iter(["starting", None])

    spent = wait(cast("Live", FakeCluster()), Gate(name="open", ask=lambda _live, _host: next(answers), within=30), CONTROLLERS[0])

    assert spent < 30


def test_a_question_that_fails_keeps_the_gate_closed_and_its_error_is_told() -> None:
    def ask(_live: Live, _host: Host) -> str | None:
        raise Mistake.at("https://10.240.0.11:6443", "connection refused")

    with pytest.raises(Mistake, match="connection refused"):
        wait(cast("Live", FakeCluster()), Gate(name="open", ask=ask, within=0), CONTROLLERS[0])


def only(survey: Survey, *numbers: int) -> Survey:
    """The same, of some hosts."""
    names = {f"controller-{n}" for n in numbers}
    plans = tuple(plan for plan in survey.plans if plan.host.name in names)
    return dataclasses.replace(survey, observed={name: seen for name, seen in survey.observed.items() if name in names}, plans=plans)


def test_a_push_of_some_hosts_asks_after_the_others_and_leaves_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another host's is not well: nothing is restarted beside it, whoever was named."""
    ill = component(lambda _live, host: "red" if host == CONTROLLERS[2] else None)

    assert pushed(ill, only(found(UP), 1), monkeypatch)[1].startswith(
        "stopped: controller-3: x is not well there, so no other is restarted"
    )
    seen = pushed(component(), only(found(UP), 1), monkeypatch)
    assert seen == ["lock 1 for push", "controller-1 apply restart", "controller-1 settle x.service", "unlock"]


def test_what_runs_on_a_host_that_was_not_named_is_no_first_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that do not run come up one after the other beside a third that does; with nobody up, together."""
    third = component(lambda _live, host: None if host == CONTROLLERS[2] else "red", within=0)

    assert "restart-no-block" not in " ".join(pushed(third, only(found(None), 1, 2), monkeypatch))
    seen = pushed(component(lambda _live, host: "red" if host == CONTROLLERS[2] else None), only(found(None), 1, 2), monkeypatch)
    assert sorted(seen[1:3]) == [f"controller-{n} apply enable restart-no-block" for n in (1, 2)]


@pytest.mark.parametrize(("named", "refused"), [((1,), True), ((1, 2), False), ((1, 2, 3), False)])
def test_etcd_is_not_started_for_the_first_time_without_most_of_its_members(
    named: tuple[int, ...], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(component="etcd", unit="etcd.service", files=())
    survey = only(
        dataclasses.replace(found(None), plans=tuple(compare(host, [part], Observed(facts=FACTS)) for host in CONTROLLERS)), *named
    )
    one = dataclasses.replace(component(lambda _live, host: None if host.name in survey.observed else "red"), name="etcd")
    monkeypatch.setattr(etcd, "COMPONENT", one)

    seen = pushed(one, survey, monkeypatch)

    assert (seen == [f"stopped: {TOO_FEW}"]) is refused
    assert (f"lock {len(named)} for push" in seen) is not refused


TOO_FEW = (
    "--hosts: etcd would start on controller-1, and becomes well on most of its 3 members or on none; "
    "name more controllers, or leave it away"
)


def test_one_member_of_etcd_that_was_stopped_is_started_alone_beside_others_that_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part(component="etcd", unit="etcd.service", files=())
    survey = only(dataclasses.replace(found(None), plans=tuple(compare(host, [part], Observed(facts=FACTS)) for host in CONTROLLERS)), 1)
    one = dataclasses.replace(component(), name="etcd")
    monkeypatch.setattr(etcd, "COMPONENT", one)

    assert pushed(one, survey, monkeypatch) == [
        "lock 1 for push",
        "controller-1 apply enable start",
        "controller-1 settle etcd.service",
        "unlock",
    ]


@pytest.mark.parametrize(("at_once", "parallel", "batches"), [(2, 0, [2, 1]), (2, 3, [3]), (2, 1, [1, 1, 1]), (1, 3, [1, 1, 1])])
def test_so_many_go_at_a_time_as_was_asked_for_and_what_goes_one_by_one_stays_so(
    at_once: int, parallel: int, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def each(hosts: Sequence[Host], do: Any, together: int) -> None:
        if hosts:
            assert len(hosts) == together
            sizes.append(together)
        for host in hosts:
            do(host)

    cluster = FakeCluster()
    monkeypatch.setattr(roll, "ALL", (component(at_once=at_once),))
    monkeypatch.setattr(roll, "each", each)
    push(cast("Cluster", cluster), found(UP), lambda _: None, parallel=parallel)

    assert sizes == batches
    assert sorted(line.split()[0] for line in cluster.seen if "apply" in line) == [host.name for host in CONTROLLERS]
