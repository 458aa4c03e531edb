"""A Machine over a real sshd."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.remote.machine import Machine
from hardway.remote.protocol import Apply
from hardway.remote.ssh import SshLine, line
from hardway.remote.tunnel import tunnel
from tests.remote.fakehost import FakeHost
from tests.remote.sshd import Sshd, free_port, make_key
from tests.remote.test_machine import A, C, blob, move, put, sha


@pytest.fixture
def reached(sshd: Sshd) -> Iterator[SshLine]:
    made = line(sshd.host(), identity=sshd.identity, known_hosts=sshd.known_hosts)
    yield made
    made.close()


@pytest.fixture
def machine(reached: SshLine, host: FakeHost) -> Machine:
    return Machine(name="c1", line=reached, root=str(host.root))


def refused(sshd: Sshd, known_hosts: Path, identity: Path | None = None, **changed: object) -> str:
    """What connecting says, in one line."""
    made = line(replace(sshd.host(), **changed), identity=identity or sshd.identity, known_hosts=known_hosts, timeout=1)  # type: ignore[arg-type]
    with pytest.raises(Mistake) as caught:
        Machine(name="c1", line=made).observe(frozenset())
    made.close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_observe_and_apply_take_one_connection_and_one_exec_each(machine: Machine) -> None:
    assert machine.connects == 0
    assert machine.observe(frozenset({A})).files == {}
    assert (machine.connects, machine.execs) == (1, 1)
    machine.apply(put(A, b"hello"))
    assert machine.observe(frozenset({A})).files[A].sha256 == sha(b"hello")
    assert (machine.connects, machine.execs) == (1, 3)
    assert machine.bytes_sent > 30_000


def test_binaries_travel_whole(machine: Machine, tmp_path: Path) -> None:
    data = os.urandom(9 << 20)
    heard: list[int] = []
    machine.store([blob(tmp_path / "one", data), blob(tmp_path / "two", b"two"), blob(tmp_path / "none", b"")], heard.append)
    assert sum(heard) == len(data) + 3
    assert machine.observe(frozenset()).stored == {sha(data), sha(b"two"), sha(b"")}
    machine.apply(Apply(moves=(move(C, data, mode=0o755),)))
    assert machine.read([A]) == {}
    assert machine.run("sha256sum", f"{machine.root}{C}").split()[0] == sha(data)


def test_a_refusal_in_the_middle_of_sending_is_told(machine: Machine, tmp_path: Path) -> None:
    wrong = replace(blob(tmp_path / "one", bytes(100)), sha256=sha(b"else"))
    large = blob(tmp_path / "large", os.urandom(9 << 20))
    with pytest.raises(Mistake, match="a binary was cut short or damaged on the way"):
        machine.store([wrong, large])


def test_an_unknown_host_key_is_refused_with_its_fingerprint(sshd: Sshd, tmp_path: Path) -> None:
    said = refused(sshd, tmp_path / "no_known_hosts")
    assert f"the host key of [127.0.0.1]:{sshd.port} is unknown: it shows SHA256:" in said
    assert said.endswith("compare it and run ./inv hosts.trust")
    assert not (tmp_path / "no_known_hosts").exists()


def test_a_changed_host_key_is_refused_with_both_fingerprints(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {make_key(tmp_path / 'other')}")
    said = refused(sshd, tmp_path / "known_hosts")
    assert "its host key has changed" in said
    assert said.count("SHA256:") == 2
    assert "./inv hosts.trust" in said


def test_a_key_that_is_not_authorized_is_a_mistake(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    said = refused(sshd, sshd.known_hosts, tmp_path / "stranger")
    assert f"may not sign in with {tmp_path / 'stranger'}" in said


def test_an_identity_that_is_missing_or_no_key_is_a_mistake(sshd: Sshd, tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refused(sshd, sshd.known_hosts, tmp_path / "none")
    (tmp_path / "text").write_text("not a key\n")
    refused(sshd, sshd.known_hosts, tmp_path / "text")


def test_a_port_where_nobody_listens_is_a_mistake(sshd: Sshd) -> None:
    said = refused(sshd, sshd.known_hosts, ssh=replace(sshd.host().ssh, port=free_port()))
    assert said.startswith("c1: cannot be reached at 127.0.0.1 port")


def test_a_port_that_says_nothing_is_a_mistake(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        said = refused(sshd, sshd.known_hosts, ssh=replace(sshd.host().ssh, port=mute.getsockname()[1]))
    assert "cannot be reached" in said


def test_a_jump_host_is_used_and_its_key_is_checked(sshd: Sshd, host: FakeHost, tmp_path: Path) -> None:
    via = f"{sshd.host().ssh.user}@127.0.0.1:{sshd.port}"
    made = line(sshd.host(via=via), identity=sshd.identity, known_hosts=sshd.known_hosts)
    assert Machine(name="c1", line=made, root=str(host.root)).run("echo", "far") == "far\n"
    made.close()
    far = replace(sshd.host(via=via), address=IPv4Address("127.0.0.9"))
    assert "the host key of [127.0.0.1]" in refused(sshd, tmp_path / "empty", address=far.address, ssh=far.ssh)


def test_loopback_is_dialled_from_the_host(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(peer.recv(100).upper())

        thread = threading.Thread(target=echo)
        thread.start()
        with tunnel(machine.dial(server.getsockname()[1])) as wire:
            wire.sendall(b"hello")
            assert wire.recv(100) == b"HELLO"
            assert wire.recv(100) == b""
        thread.join()
    with pytest.raises(ConnectionRefusedError, match=r"c1: 127\.0\.0\.1:"):
        machine.dial(free_port())


def test_a_lost_connection_is_dialled_again(machine: Machine, reached: SshLine) -> None:
    machine.run("true")
    reached.close()
    machine.run("true")
    assert machine.connects == 2


def test_a_second_operator_is_told_who_holds_the_lock(sshd: Sshd, machine: Machine, host: FakeHost) -> None:
    bobs = line(sshd.host(), identity=sshd.identity, known_hosts=sshd.known_hosts)
    bob = Machine(name="c1", line=bobs, root=str(host.root))
    with machine.lock("push"):
        with (
            pytest.raises(Mistake, match=r"c1: another operator is at work: .+@.+, push since 20..-..-..T..:..:..Z; wait"),
            bob.lock("rotate"),
        ):
            pass
        machine.apply(put(A, b"a"))
    with bob.lock("rotate"):
        pass
    bobs.close()


def test_a_lock_goes_with_its_connection_and_its_holder_may_change_nothing_more(sshd: Sshd, machine: Machine, host: FakeHost) -> None:
    alices = line(sshd.host(), identity=sshd.identity, known_hosts=sshd.known_hosts)
    alice = Machine(name="c1", line=alices, root=str(host.root), heartbeat=0.05)
    with alice.lock("push") as held:
        alices.close()
        assert held.lost.wait(timeout=20)
        with pytest.raises(Mistake, match="the connection that holds its lock was lost"):
            alice.apply(put(A, b"a"))
        machine.run("flock", f"{host.root}/run/hardway/lock", "true")  # waits until the host has noticed
        with machine.lock("push"):
            machine.apply(put(A, b"a"))
    alices.close()
