"""Authorities that have expired are replaced together, in one go; those that have not are left as they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from hardway.chronicle import Diary, Part
from hardway.errors import Finding, Mistake, Unready
from hardway.inventory import Host, Inventory, Role, load
from hardway.pki import declared, issue, kept, succession
from hardway.pki.declared import Declarations
from hardway.pki.pair import Pair
from hardway.pki.trust import Phase
from hardway.rotate import expired
from hardway.rotate.steps import World
from hardway.state import State

ROOT = Path(__file__).parents[2]
INVENTORY: Inventory = load(ROOT / "inventory.yaml")
DECLARED: Declarations = declared.load(ROOT / "certs")
STOPPED: dict[str, Role] = {
    "etcd": "controller",  # its members know each other by it: one alone would not come up
    "kube-controller-manager": "controller",
    "kube-scheduler": "controller",
    "kubelet": "worker",
    "kube-proxy": "worker",
}
ALL = tuple(one.authority for one in DECLARED.wanted(INVENTORY))


@dataclass
class Told:
    """A cluster that writes down what its hosts are told."""

    log: list[str]

    def run(self, host: Host, *argv: str) -> str:
        self.log.append(f"{host.name} {' '.join(argv)}")
        return ""


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was brought and proved, in this order."""
    log: list[str] = []
    monkeypatch.setattr(expired, "prove", lambda _world, one, _cluster, step: log.append(f"{step.value} {one.authority}"))
    return log


@pytest.fixture
def world(tmp_path: Path, done: list[str]) -> Callable[[datetime], World]:
    def made(when: datetime) -> World:
        state = State(tmp_path / "state")
        issue.ensure(DECLARED, INVENTORY, state, when)

        def push(_: Any) -> int:
            done.append("push")
            return 7

        return World(
            inventory=INVENTORY,
            declarations=DECLARED,
            state=state,
            cluster=lambda: nullcontext(Told(done)),  # type: ignore[arg-type]
            push=push,
            pending=lambda _: 0,
            snapshot=lambda _: pytest.fail("of a cluster that answers nobody"),
            unlock=kept.locked,
            tell=print,
        )

    return made


def test_all_that_have_expired_are_replaced_by_one_push(world: Callable[[datetime], World], done: list[str]) -> None:
    here = world(datetime.now(UTC) - timedelta(days=3700))
    old = {name: succession.trust(here.state, name).signer for name in ALL}

    assert expired.replace(here) == ALL

    order = ("kubernetes", *(name for name in ALL if name != "kubernetes"))  # Pods have to follow before what runs in them proves anything
    proofs = [f"{step} {name}" for name in order for step in ("prepare", "switch")]
    assert done[-len(proofs) - 1 :] == ["push", *proofs]
    # Who would look in five minutes only does not run when the push comes, so that it starts with what is new.
    stops = {f"{host.name} systemctl stop {unit}.service" for unit, role in STOPPED.items() for host in INVENTORY.on(role)}
    assert set(done[: -len(proofs) - 1]) == stops
    for name in ALL:
        trust = succession.trust(here.state, name)
        assert (trust.phase, trust.retired) == (Phase.SETTLED, (old[name],))
        assert trust.signer.not_after > datetime.now(UTC) + timedelta(days=3000)
        leaves = kept.leaves(here.state, name).values()
        assert {pair.issuer for pair in leaves if isinstance(pair, Pair)} <= {trust.signer.common_name}
    assert issue.ensure(DECLARED, INVENTORY, here.state, datetime.now(UTC)) == ()


def test_one_of_which_only_state_was_changed_when_it_was_killed_is_replaced_the_same(
    world: Callable[[datetime], World], done: list[str]
) -> None:
    here = world(datetime.now(UTC) - timedelta(days=3700))
    etcd = next(one for one in DECLARED.wanted(INVENTORY) if one.authority == "etcd")
    prepared = succession.prepare(etcd, INVENTORY, here.state, datetime.now(UTC))

    assert expired.replace(here) == ALL

    assert succession.trust(here.state, "etcd").trusted == (prepared,)
    assert done.count("push") == 1


def test_what_is_done_at_once_is_one_step_of_what_is_written_down(world: Callable[[datetime], World], done: list[str]) -> None:
    diary = Diary(what="all")

    expired.replace(replace(world(datetime.now(UTC) - timedelta(days=3700)), phase=diary.phase))

    assert [(one.of, one.step, one.part) for one in diary.phases] == [(", ".join(ALL), "replace", part) for part in get_args(Part)]
    assert done


def test_what_has_not_expired_is_left_alone(world: Callable[[datetime], World], done: list[str]) -> None:
    here = world(datetime.now(UTC))
    before = {name: here.state.read(name) for name in here.state.glob("pki/**/*")}

    assert expired.replace(replace(here, fast=True)) == ()

    assert done == []
    assert before == {name: here.state.read(name) for name in here.state.glob("pki/**/*")}


def unready_at_first(done: list[str]) -> Callable[[Any], int]:
    def push(_: Any) -> int:
        done.append("push")
        if done.count("push") == 1:
            raise Unready(Finding(where="controller-1: gate available", what="still closed"))
        return 7

    return push


def test_what_runs_in_pods_is_pushed_to_the_end_once_they_have_followed(world: Callable[[datetime], World], done: list[str]) -> None:
    here = replace(world(datetime.now(UTC) - timedelta(days=3700)), push=unready_at_first(done))

    assert expired.replace(here) == ALL

    first, *followed = done[done.index("push") :]
    assert (first, followed[:3]) == ("push", ["prepare kubernetes", "switch kubernetes", "push"])
    assert done.count("push") == 2


def test_pods_that_have_nothing_to_follow_are_not_waited_for(world: Callable[[datetime], World], done: list[str]) -> None:
    here = replace(world(datetime.now(UTC) - timedelta(days=3700)), push=unready_at_first(done))
    kubernetes = next(one for one in DECLARED.wanted(INVENTORY) if one.authority == "kubernetes")
    expired._succeed(here, kubernetes)  # by hand: it alone has not expired

    with pytest.raises(Unready, match="gate available: still closed"):
        expired.replace(here)


def test_what_goes_wrong_on_a_host_is_told_at_once(world: Callable[[datetime], World], done: list[str]) -> None:
    def push(_: Any) -> int:
        done.append("push")
        raise Mistake.at("controller-1", "is broken")

    with pytest.raises(Mistake, match="is broken"):
        expired.replace(replace(world(datetime.now(UTC) - timedelta(days=3700)), push=push))

    assert done.count("push") == 1
