"""The verbs of state/, on a cluster that is nowhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tasks
from hardway import inventory as reading
from hardway.keeping import backup as keeping
from hardway.pki import declared, issue
from hardway.state import State
from hardway.verbs.program.cli import Cli

ROOT = Path(__file__).parents[2]
LONG = "correct horse battery"

Inv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """An inventory of one host, at which nobody answers."""
    cluster = f"state-{datetime.now(UTC):%H%M%S%f}"
    path = tmp_path / "inventory.yaml"
    path.write_text(
        f"cluster: {cluster}\n"
        "networks: {service_cidr: 10.32.0.0/24, pod_cidr: 10.200.0.0/16}\n"
        "endpoint: {loadbalancer: none, address: 192.0.2.1, port: 6443}\n"
        "hosts: {controller-1: {address: 192.0.2.1, roles: [controller]}}\n"
    )
    try:
        yield path
    finally:
        for left in (ROOT / "state").glob(f"{cluster}*"):
            shutil.rmtree(left)


@pytest.fixture
def state(path: Path) -> State:
    """All that a push would have left in state/."""
    inventory = reading.load(path)
    state = State(ROOT / "state" / inventory.cluster)
    issue.ensure(declared.load(ROOT / "certs"), inventory, state, datetime.now(UTC))
    return state


@pytest.fixture
def inv(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inv:
    """Run `./inv` in this process, with a passphrase in a file."""
    secret = tmp_path / "secret"
    secret.write_text(LONG)
    secret.chmod(0o600)
    monkeypatch.setattr(keeping.backup, "__defaults__", (2,))  # a cheap scrypt

    def run(*words: str) -> tuple[int, str, str]:
        code = Cli(tasks.CONTENTS, version="test")._outcome(["inv", "--inventory", str(path), "--passphrase-file", str(secret), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def content(state: State) -> dict[str, bytes]:
    return {name: state.read(name) for name in state.glob("pki/**/*")}


def test_a_state_that_is_gone_comes_back_of_its_backup(inv: Inv, state: State, tmp_path: Path) -> None:
    before, file = content(state), str(tmp_path / "kit.backup")

    code, out, _ = inv("state.backup", file)
    assert (code, out) == (0, f"{file}: {len(before)} files of {state.root}\n")
    code, _, err = inv("state.restore", file)
    assert (code, "with --replace the old one is kept beside it" in err) == (1, True)
    shutil.rmtree(state.root)
    code, out, err = inv("state.restore", file)

    assert (code, out) == (0, f"{state.root}: {len(before)} files of {file}\n")
    assert content(state) == before
    code, out, _ = inv("state.restore", file, "--replace")
    assert code == 0
    assert f"what was there before is in {state.root}.before-" in out


def test_keys_are_sealed_and_open_again_and_nothing_says_the_passphrase(inv: Inv, state: State) -> None:
    before = content(state)

    said = [inv("state.seal"), inv("state.seal"), inv("state.unseal")]

    assert [code for code, *_ in said] == [0, 0, 0]
    assert "sealed\n" in said[0][1]
    assert "is sealed already" in said[1][1]
    assert content(state) == before
    assert LONG not in str(said)


def test_a_recovery_beside_keys_that_are_there_asks_no_host(inv: Inv, state: State) -> None:
    code, _, err = inv("state.recover")

    assert code == 1
    assert f"{state.root}/pki: there are keys and certificates already" in err


def test_an_authority_of_ones_own_is_taken_before_the_first_push_alone(inv: Inv, path: Path, tmp_path: Path) -> None:
    state = State(ROOT / "state" / reading.load(path).cluster)
    other = State(tmp_path / "other")
    issue.ensure(declared.load(ROOT / "certs"), reading.load(path), other, datetime.now(UTC))
    (own,) = other.root.glob("pki/etcd/authority-*.pem")

    code, out, _ = inv("state.authority", "etcd", str(own))
    again = inv("state.authority", "etcd", str(own))
    strange = inv("state.authority", "ectd", str(own))

    assert (code, out) == (0, f"{state.path(f'pki/etcd/{own.name}')}: authority etcd\n")
    assert (again[0], "authority etcd is there already" in again[2]) == (1, True)
    assert (strange[0], "it has cluster-signing, etcd, front-proxy, kubernetes" in strange[2]) == (1, True)


def test_a_state_that_others_can_read_stops_every_verb(inv: Inv, state: State) -> None:
    (state.root / "pki").chmod(0o755)

    code, _, err = inv("plan")

    assert code == 1
    assert f"{state.root}/pki: others than its owner have access (mode 0755); look who could have read it, then `chmod go= " in err


@pytest.mark.parametrize("help_", ["--help", "-h"])
def test_a_verb_that_wants_a_file_takes_no_question_for_one(
    inv: Inv, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, help_: str
) -> None:
    assert state.root.exists()
    monkeypatch.chdir(tmp_path)

    code, out, _ = inv("state.backup", help_)

    assert (code, out.splitlines()[0]) == (0, "Usage: ./inv state.backup FILE [--options]")
    assert not (tmp_path / help_).exists()
