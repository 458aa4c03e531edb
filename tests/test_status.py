"""A status tells all that answers, counts what a push would change, and hides nothing behind a host that is gone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hardway import components, status
from hardway.components.kubelet import OWN
from hardway.desired import Blob, Component, Gate, Live, Needs, Roll
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.observed import Facts, Observed, UnitState
from hardway.pki import declared
from hardway.pki.credentials import Credentials, placeholders
from hardway.pki.pair import leaf, root
from hardway.pki.register import Item
from hardway.pki.request import Request
from hardway.preflight import PROVED
from hardway.remote.cluster import Cluster

ROOT = Path(__file__).parents[1]
INVENTORY = load(ROOT / "inventory.yaml")
NOW = datetime(2026, 11, 25, tzinfo=UTC)
FACTS = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="b", clock=NOW.timestamp(), disk_free=1 << 40, memory=1 << 30)
UP = UnitState(active="active", sub="running", enabled=True, invocation="1", restarts=0, since="Wed 2026-11-25 00:00:00 UTC")
X = Component(
    name="x",
    on=("controller",),
    files=lambda *_: (),
    roll=Roll(gates=(Gate(name="up", ask=lambda _live, _host: None, within=0),)),
    version=lambda _live, host: f"1.{host.name[-1]}",
    leader=lambda _live: "controller-2",
)
SEEN = Observed(facts=FACTS, units={"x.service": UP})


@dataclass
class FakeMachine:
    name: str
    seen: Observed | None
    asked: list[str]

    def observe(self, *_: object, **__: object) -> Observed:
        self.asked.append(self.name)
        if self.seen is None:
            raise Mistake.at(self.name, "cannot be reached")
        return self.seen


@dataclass
class FakeCluster:
    seen: Mapping[str, Observed | None]
    asked: list[str] = field(default_factory=list)
    inventory: Inventory = INVENTORY
    credentials: Credentials = field(default_factory=lambda: placeholders(declared.load(ROOT / "certs"), INVENTORY))

    def machine(self, host: Host) -> FakeMachine:
        return FakeMachine(host.name, self.seen.get(host.name, SEEN), self.asked)


def found(component: Component = X, items: tuple[Item, ...] = (), **seen: Observed | None) -> tuple[status.Status, FakeCluster]:
    cluster = FakeCluster({name.replace("_", "-"): one for name, one in seen.items()})
    with pytest.MonkeyPatch.context() as patch:
        for module in (status, components):
            patch.setattr(module, "ALL", (component,))
        patch.setattr(status, "_changes", lambda *_: 0)
        patch.setattr(status, "_objects", lambda _: 0)
        return status.status(cast("Cluster", cluster), lambda _: cast("Mapping[str, Blob]", {}), items, NOW, INVENTORY.hosts), cluster


def test_each_host_is_asked_once_and_all_is_well() -> None:
    seen, cluster = found()

    assert sorted(cluster.asked) == sorted(host.name for host in INVENTORY.hosts)
    assert seen.down == ()
    assert seen.leaders == {"x": "controller-2"}
    assert seen.changes == 0
    daemons = [daemon for one in seen.standings for daemon in one.daemons]
    assert [(daemon.runs, daemon.since) for daemon in daemons] == [(f"1.{n}", UP.since) for n in (1, 2, 3)]


def test_a_host_that_does_not_answer_hides_nothing_of_the_others() -> None:
    seen, _ = found(controller_2=None)

    assert seen.down == (("controller-2", "does not answer: controller-2: cannot be reached"),)
    assert [one.host.name for one in seen.standings if one.observed is None] == ["controller-2"]
    assert seen.changes is None


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (replace(SEEN, units={}), "x: is not installed"),
        (replace(SEEN, units={"x.service": replace(UP, active="failed", sub="failed")}), "x: is failed (failed)"),
        (replace(SEEN, died=True), "a push was cut short after its commit: ./inv push finishes it"),
        (
            replace(SEEN, restoring="1 2 3", died=True),
            "a restore of etcd is under way or was cut short: run the same ./inv etcd.restore again",
        ),
    ],
)
def test_what_is_down_is_told(observed: Observed, expected: str) -> None:
    seen, _ = found(controller_1=observed)

    assert seen.down == (("controller-1", expected),)


def test_what_one_host_has_lost_is_judged_by_what_the_others_have() -> None:
    needs = Needs(keeps=(PurePosixPath("/x"),), rejoined="mend {host.name}", restored="mend all")
    keeps = replace(X, needs=lambda _: needs)
    has = replace(SEEN, ground=replace(SEEN.ground, paths=frozenset({PROVED / "x.service", PurePosixPath("/x")})))
    lost = replace(has, units={}, ground=replace(SEEN.ground, paths=frozenset({PROVED / "x.service"})))

    def steps(**hosts: Observed) -> list[str]:
        seen, _ = found(keeps, (), **{"controller_1": has, "controller_2": has, "controller_3": has, **hosts})
        return [finding.next_step for one in seen.standings for finding in one.findings if "is gone" in finding.what]

    assert steps(controller_2=lost) == ["mend controller-2"]
    assert steps(controller_2=lost, controller_3=lost) == ["mend all"] * 2


def test_a_certificate_that_a_daemon_has_asked_for_may_be_the_first_to_end() -> None:
    asks = replace(X, own=lambda _: OWN)
    ends = NOW + timedelta(days=20)
    request = Request(authority="x", certificate="x", common_name="x", usages=("client",))
    signed = leaf(request, root("x", keys="ec", days=30, now=NOW), now=NOW, lifetime=ends - NOW)
    der = signed.certificate.public_bytes(Encoding.DER)
    other = Item(kind="certificate", name="other", not_after=ends + timedelta(days=1))

    seen, _ = found(asks, (other,), controller_2=replace(SEEN, certificates={OWN.path: der}))

    assert seen.expires is not None
    assert (seen.expires.name, seen.expires.host, seen.days) == ("x", "controller-2", 20)


def test_a_daemon_that_runs_and_is_not_well_is_down() -> None:
    def ask(_live: Live, host: Host) -> str | None:
        if host.name == "controller-3":
            raise Mistake.at("here", "refused")
        return "it waits" if host.name == "controller-2" else None

    seen, _ = found(replace(X, roll=Roll(gates=(Gate(name="up", ask=ask, within=0),)), leader=lambda _live: None))

    assert seen.down == (("controller-2", "x: it waits"), ("controller-3", "x: here: refused"), ("cluster", "x: nobody leads"))


def test_members_of_different_etcd_clusters_are_told() -> None:
    seen, _ = found()
    standings = [replace(one, daemons=tuple(replace(d, cluster=n) for d in one.daemons)) for n, one in enumerate(seen.standings, 1)]

    assert "do not belong to one cluster" in replace(seen, standings=tuple(standings)).down[0][1]


def test_the_document_holds_what_programs_ask_for() -> None:
    ends = NOW + timedelta(days=10, hours=1)
    items = (Item(kind="key", name="none"), Item(kind="certificate", name="late", not_after=ends + timedelta(days=1)))
    seen, _ = found(items=(*items, Item(kind="certificate", name="soon", host="lb-1", not_after=ends)), controller_1=None)
    document: dict[str, Any] = json.loads(json.dumps(replace(seen, objects=2).document))

    assert document["schema"] == 1
    assert document["well"] is False
    assert document["expires"] == {"name": "soon", "host": "lb-1", "not_after": ends.isoformat(), "days": 10}
    assert [(host["name"], host["answers"]) for host in document["hosts"]][:2] == [("lb-1", True), ("controller-1", False)]
    assert document["hosts"][2]["components"][0] == {
        "name": "x",
        "unit": "x.service",
        "active": "active",
        "since": UP.since,
        "restarts": 0,
        "declared": None,
        "runs": "1.2",
        "well": True,
        "why": "",
    }


def test_a_restart_that_is_owed_is_told_and_is_not_down() -> None:
    seen, _ = found(controller_1=replace(SEEN, owed=frozenset({"x.service"})))

    assert seen.owed == (("controller-1", "x.service"),)
    assert seen.down == ()
