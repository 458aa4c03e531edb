"""A renewal pushes certificates, and nothing else with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from hardway.certs.renewal import _refuse_other_bundles, narrowed
from hardway.desired import Content, File, Part, Pickup, Secret, Text, Use
from hardway.errors import Mistake
from hardway.inventory import load
from hardway.observed import Observed, OnDisk, UnitState
from hardway.pki.declared import Authority, Declarations, Place
from hardway.plan import Change, compare
from hardway.push import Survey
from tests.certs.conftest import FACTS

HOST = load(Path(__file__).parents[2] / "inventory.yaml").on("controller")[0]
UP = UnitState(active="active", sub="running", enabled=True, invocation="1", restarts=0)


def file(path: str, content: Content, pickup: Pickup = Pickup.RESTART) -> File[Content]:
    return File(path=PurePosixPath(path), content=content, uses=(Use(reader="x.service", pickup=pickup),))


UNIT = file("/etc/systemd/system/x.service", Text("flags: new"))
CONFIG = file("/etc/x/config", Text("new"))
LEAF = file("/etc/x/leaf.pem", Secret(b"new"), Pickup.WATCH)
ONCE = file("/etc/x/once.pem", Secret(b"new"))


def found(*files: File[Content], unit: UnitState = UP, installed: bool = True) -> Survey:
    """A host on which every file is another one than it should be, and one is left over."""
    old = OnDisk(sha256="0", mode=0o644, owner="root:root")
    there = {one.path: old for one in files if installed or one is not UNIT} | {PurePosixPath("/etc/x/left"): old}
    observed = Observed(facts=FACTS, files=there, units={"x.service": unit}, managed=frozenset(there))
    part = Part(component="x", unit="x.service", files=files)
    change = Change(component="x", action="apply", what="role/x", why="")
    plans = (compare(HOST, [part], observed),)
    return Survey(observed={HOST.name: observed}, parts={HOST.name: (part,)}, plans=plans, objects=(change,), texts={})


def leaves(one: File[Content]) -> bool:
    return one.path.suffix == ".pem"


def does(survey: Survey, keep: Callable[[File[Content]], bool] = leaves) -> list[str]:
    ours = narrowed(survey, keep)
    assert ours.objects == ()
    return [f"{change.action} {change.what}" for plan in ours.plans for change in plan.changes]


def test_drift_and_what_is_left_over_stay_as_they_are() -> None:
    everything = found(UNIT, CONFIG, LEAF)

    assert [change.action for change in everything.plans[0].changes] == ["update", "update", "update", "restart", "delete"]
    assert does(everything) == ["update /etc/x/leaf.pem"]


def test_a_reader_that_looks_only_at_its_start_is_restarted() -> None:
    assert does(found(UNIT, LEAF, ONCE)) == ["update /etc/x/leaf.pem", "update /etc/x/once.pem", "restart x.service"]


def test_a_unit_that_has_failed_is_started_and_one_that_is_not_enabled_stays_so() -> None:
    failed = dataclasses.replace(UP, active="failed", enabled=False)

    assert does(found(UNIT, LEAF, unit=failed)) == ["update /etc/x/leaf.pem", "start x.service"]


def test_what_was_never_installed_is_not_begun_by_a_renewal() -> None:
    assert does(found(UNIT, LEAF, unit=dataclasses.replace(UP, active="inactive"), installed=False)) == []


def test_nothing_that_differs_is_nothing_to_do() -> None:
    assert does(found(UNIT, CONFIG)) == []


def test_who_does_not_trust_the_authority_is_not_shown_what_it_has_signed() -> None:
    path = PurePosixPath("/etc/x/ca.crt")
    place = Place(role="controller", path=path, read_by={"x.service": Pickup.WATCH})
    declarations = Declarations(authorities=(Authority(authority="x", common_name="x", trusted_in=(place,)),))
    bundle = file(str(path), Text("new"), Pickup.WATCH)

    with pytest.raises(Mistake, match=r"ca\.crt is not what state/ trusts; run \./inv push"):
        _refuse_other_bundles(found(UNIT, bundle, LEAF), declarations)
    _refuse_other_bundles(found(UNIT, LEAF), declarations)
