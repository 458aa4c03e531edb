"""One generation follows another by which files are there; each step can be taken once, and interrupted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import issue, kept, succession
from hardway.pki.credentials import credentials
from hardway.pki.declared import Authority, Declarations
from hardway.pki.pair import Pair
from hardway.pki.strangers import unknown
from hardway.pki.succession import Step
from hardway.state import State

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path, declarations: Declarations, inventory: Inventory) -> State:
    made = State(tmp_path / "state")
    issue.ensure(declarations, inventory, made, NOW)
    return made


def named(declarations: Declarations, name: str) -> Authority:
    return next(one for one in declarations.authorities if one.authority == name)


def signers(state: State, authority: str) -> set[str]:
    return {pair.issuer for pair in kept.leaves(state, authority).values() if isinstance(pair, Pair)}


@pytest.mark.parametrize("name", ["kubernetes", "etcd", "front-proxy", "cluster-signing"])
def test_an_authority_is_prepared_switched_finished_and_forgotten(
    name: str, state: State, declarations: Declarations, inventory: Inventory
) -> None:
    one = named(declarations, name)
    old = succession.trust(state, name).signer
    assert succession.done(state, name) is None

    new = succession.prepare(one, inventory, state, NOW)
    assert succession.done(state, name) is Step.PREPARE
    assert credentials(declarations, inventory, state).trusts[name].bundle == old.certificate + new.certificate
    assert succession.trust(state, name).signer == old
    assert issue.ensure(declarations, inventory, state, NOW) == ()  # an ordinary push keeps both

    succession.switch(one, inventory, state, NOW)
    assert succession.done(state, name) is Step.SWITCH
    assert signers(state, name) == {new.common_name}
    assert succession.switch(one, inventory, state, NOW) == ()
    assert issue.ensure(declarations, inventory, state, NOW) == ()

    assert succession.finish(state, name) == (old,)
    assert succession.done(state, name) is Step.FINISH
    found = credentials(declarations, inventory, state).trusts[name]
    assert (found.bundle, found.signer, found.retired) == (new.certificate, new, (old,))
    assert next(iter(succession.retired(state, name).values())).key

    succession.forget(state, name)
    assert succession.done(state, name) is None
    assert b"PRIVATE KEY" not in state.read(f"pki/{name}/retired-{old.name}.pem")
    assert unknown({Path("/ca"): old.certificate}, [found], NOW) == ""  # type: ignore[dict-item]
    assert succession.prepare(one, inventory, state, NOW).name not in {old.name, new.name}


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ((), "2026a"),
        (("2026a", "2026b"), "2026c"),
        (("2025c",), "2026a"),
        (("2026c",), "2026d"),  # the older ones were lost with state/, and it was built anew
        (("2026z", "2026a"), "2026aa"),
        (("2027a",), "2027b"),  # somebody's clock was wrong
    ],
)
def test_a_new_generation_is_the_newest_by_its_name(taken: tuple[str, ...], expected: str) -> None:
    assert kept.next_name(taken, NOW) == expected


@pytest.mark.parametrize("there", [True, False])
def test_a_key_that_is_kept_apart_is_retired_too_and_gone_from_state_alone_when_forgotten(
    there: bool, state: State, declarations: Declarations, inventory: Inventory, tmp_path: Path
) -> None:
    one, old = named(declarations, "etcd"), succession.trust(state, "etcd").signer
    elsewhere = tmp_path / "etcd.key"
    elsewhere.write_bytes(state.read(old.file).removeprefix(old.certificate.encode()))
    elsewhere.chmod(0o600)
    state.write(old.file, old.certificate.encode())
    state.link(kept.apart(old.file), elsewhere)
    succession.prepare(one, inventory, state, NOW)
    succession.switch(one, inventory, state, NOW)
    if not there:
        elsewhere.rename(tmp_path / "unplugged")

    succession.finish(state, "etcd")

    assert succession.done(state, "etcd") is Step.FINISH  # what it has signed is still to be seen refused
    (retired,) = succession.retired(state, "etcd").values()
    assert bool(retired.key) is there
    assert not state.path(kept.apart(old.file)).is_symlink()

    succession.forget(state, "etcd")

    assert succession.done(state, "etcd") is None
    assert not [path for path in state.root.rglob("*.key") if path.is_symlink()]
    assert elsewhere.exists() is there  # its own copy is its keeper's


def test_a_switch_that_was_interrupted_goes_on_with_the_newer(state: State, declarations: Declarations, inventory: Inventory) -> None:
    one = named(declarations, "etcd")
    new = succession.prepare(one, inventory, state, NOW)
    before = {name: state.read(name) for name in state.glob("pki/etcd/*")}
    files = succession.switch(one, inventory, state, NOW)
    for file in files[1:]:  # only the first was written
        state.write(file, before[file])

    assert succession.done(state, "etcd") is Step.SWITCH
    assert {made.file for made in issue.ensure(declarations, inventory, state, NOW)} == set(files[1:])
    assert signers(state, "etcd") == {new.common_name}


@pytest.mark.parametrize("name", ["etcd", "cluster-signing"])
def test_a_switch_goes_back_and_what_was_prepared_is_given_up(
    name: str, state: State, declarations: Declarations, inventory: Inventory
) -> None:
    one = named(declarations, name)
    old = succession.trust(state, name).signer
    new = succession.prepare(one, inventory, state, NOW)
    succession.switch(one, inventory, state, NOW)

    succession.switch(one, inventory, state, NOW, back=True)

    assert succession.done(state, name) is Step.PREPARE
    assert signers(state, name) == {old.common_name}
    assert succession.finish(state, name) == (new,)
    assert succession.trust(state, name).trusted == (old,)


def test_a_generation_without_its_key_signs_nothing(state: State, declarations: Declarations, inventory: Inventory) -> None:
    one = named(declarations, "etcd")
    new = succession.prepare(one, inventory, state, NOW)
    file = f"pki/etcd/authority-{new.name}.pem"
    state.write(file, new.certificate.encode())
    before = {name: state.read(name) for name in state.glob("pki/**/*")}

    with pytest.raises(
        Mistake,
        match=r"its key is missing, neither here nor in authority-2026b\.key beside it, and wanted for everything that it is to sign",
    ):
        succession.switch(one, inventory, state, NOW)

    assert before == {name: state.read(name) for name in state.glob("pki/**/*")}


@pytest.mark.parametrize("name", ["service-account", "encryption"])
def test_a_key_is_known_before_it_is_used_and_forgotten_after(
    name: str, state: State, declarations: Declarations, inventory: Inventory
) -> None:
    (old,) = kept.keys(state, name)
    later = NOW + timedelta(days=1)

    new = succession.prepare_key(name, inventory, state, later)
    assert succession.key_done(state, name) is Step.PREPARE
    prepared = credentials(declarations, inventory, state)
    assert issue.ensure(declarations, inventory, state, later) == ()

    succession.switch_key(state, name)
    assert succession.key_done(state, name) is Step.SWITCH
    switched = credentials(declarations, inventory, state)

    assert succession.finish_key(state, name) == (old,)
    assert succession.key_done(state, name) is Step.FINISH
    finished = credentials(declarations, inventory, state)
    succession.forget_key(state, name)
    assert succession.key_done(state, name) is None
    assert [state.read(file) for file in state.glob(f"pki/{name}/retired-*")] == [b""]
    assert succession.prepare_key(name, inventory, state, later) not in {new, old.rpartition("-")[2].removesuffix(".pem")}

    if name == "encryption":
        first = f"key-{old.rpartition('-')[2]}"
        names = [[key.name for key in one.encryption_keys] for one in (prepared, switched, finished)]
        assert names == [[first, f"key-{new}"], [f"key-{new}", first], [f"key-{new}"]]
    else:
        host = inventory.on("controller")[0]
        public = [
            next(f.content.text for f in one.files(host) if f.path.name == "service-account.pub").count("BEGIN PUBLIC")  # type: ignore[union-attr]
            for one in (prepared, switched, finished)
        ]
        private = [
            next(f.content.data for f in one.files(host) if f.path.name == "service-account.pem")  # type: ignore[union-attr]
            for one in (prepared, switched, finished)
        ]
        assert public == [2, 2, 1]
        assert private[0] != private[1] == private[2]


def test_a_step_is_beyond_another_in_their_order() -> None:
    assert [succession.passed(done, Step.SWITCH) for done in (None, *Step)] == [False, False, False, True]
