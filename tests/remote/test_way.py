"""The way to a host by ~/.ssh/config, over jump hosts and commands, with keys of every kind; over a real sshd."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote.ssh import Once, SshLine, line
from hardway.remote.ssh.keys import Ask, nobody
from hardway.remote.ssh.way import way
from tests.remote.sshd import Sshd, make_key, start

pytestmark = pytest.mark.lab  # too slow for the quick tests: many keys are made
WORD = "secret"
RELAY = """
import os, socket, sys, threading

def pump(source, sink):
    while piece := os.read(source, 65536):
        os.write(sink, piece)

with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as there:
    threading.Thread(target=pump, args=(0, there.fileno()), daemon=True).start()
    pump(there.fileno(), 1)
"""


@dataclass
class Operator:
    """Somebody with a configuration, keys and perhaps an agent of his own."""

    base: Path
    sshd: Sshd
    lines: list[SshLine] = field(default_factory=list)

    def config(self, text: str) -> None:
        (self.base / "config").write_text(text)

    def key(self, name: str, kind: str = "ed25519", passphrase: str = "", *, let_in: bool = True) -> Path:
        made = make_key(self.base / name, kind, passphrase)
        if let_in:
            with (self.sshd.base / "authorized_keys").open("a") as file:
                file.write(made)
        return self.base / name

    def line(self, host: Host, ask: Ask = nobody) -> SshLine:
        known = self.base / "known_hosts"
        if not known.exists():
            known.write_text(self.sshd.known_hosts.read_text())
        self.lines.append(line(host, identity=None, known_hosts=known, ask=ask, config=self.base / "config", timeout=10))
        return self.lines[-1]

    def reaches(self, host: Host, ask: Ask = nobody) -> bool:
        return self.line(host, ask).execute("true").finish()[0] == 0

    def refused(self, host: Host, ask: Ask = nobody) -> str:
        with pytest.raises(Mistake) as caught:
            self.line(host, ask).execute("true")
        return str(caught.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = start(tmp_path_factory.mktemp("way"), "LogLevel VERBOSE\n")
    yield made
    made.stop()


@pytest.fixture
def operator(tmp_path: Path, server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Operator(tmp_path, server)
    made.config("")
    yield made
    for one in made.lines:
        one.close()


@pytest.fixture
def agent(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent that is empty."""
    sock = operator.base / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    while not sock.exists():
        assert process.poll() is None
    monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
    yield
    process.terminate()
    process.wait()


def add(key: Path, passphrase: str = "") -> None:
    """Give the agent a key."""
    program = key.with_name("askpass")
    program.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
    program.chmod(0o755)
    asking = {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", key], env={**os.environ, **asking}, check=True, stdin=subprocess.DEVNULL)


def test_a_host_of_the_configuration_says_all_that_the_inventory_does_not(operator: Operator) -> None:
    user, key = operator.sshd.host().ssh.user, operator.key("mine")
    (operator.base / "more").write_text(f"Match host=127.0.0.1\n  IdentityFile {key}\n")
    operator.config(
        f"Host vm\n  HostName 127.0.0.1\n  Port {operator.sshd.port}\n  User {user}\n"
        f"Host other\n  User nobody\nHost *\n  Include {operator.base}/mo*\n"
    )
    assert operator.reaches(operator.sshd.host(host="vm", user=None, port=None))


def test_what_the_inventory_says_wins_and_root_on_port_22_is_what_neither_says(operator: Operator) -> None:
    def found(**ssh: Any) -> tuple[str, str, int]:
        to = way(operator.sshd.host(**ssh), identity=None, known_hosts=operator.base / "none", config=operator.base / "config")
        return to.user, to.address, to.port

    assert found(user=None, port=None) == ("root", "127.0.0.1", 22)
    operator.config("Host vm\n  HostName 192.0.2.7\n  User ops\n  Port 2222\n")
    assert found(user=None, port=None) == ("root", "127.0.0.1", 22)
    assert found(user=None, port=None, host="vm") == ("ops", "192.0.2.7", 2222)
    assert found(user="me", port=23, host="vm") == ("me", "192.0.2.7", 23)


def test_a_configuration_that_ssh_does_not_understand_is_a_mistake(operator: Operator) -> None:
    operator.config("Hots vm\n")
    assert operator.refused(operator.sshd.host()).startswith("c1: ssh does not understand its configuration: ")


@pytest.fixture(scope="module")
def hops(tmp_path_factory: pytest.TempPathFactory, server: Sshd) -> Iterator[tuple[Sshd, Sshd]]:
    """Two jump hosts, of which the first leads only to the second, and the second only to the server."""
    made: list[Sshd] = []
    for name, to in (("second", server.port), ("first", 0)):
        base = tmp_path_factory.mktemp(name)
        (base / "id").write_text("")
        (base / "authorized_keys").symlink_to(server.base / "authorized_keys")
        made.append(start(base, f"PermitOpen 127.0.0.1:{to or made[0].port}\n"))
    second, first = made
    yield first, second
    first.stop()
    second.stop()


def bastions(operator: Operator, hops: tuple[Sshd, Sshd]) -> str:
    known = operator.base / "known_hosts"
    known.write_text("".join(one.known_hosts.read_text() for one in (operator.sshd, *hops)))
    return ",".join(f"{operator.sshd.host().ssh.user}@127.0.0.1:{one.port}" for one in hops)


def test_two_jump_hosts_of_the_inventory_go_in_their_order(operator: Operator, hops: tuple[Sshd, Sshd]) -> None:
    via, key = bastions(operator, hops), operator.key("mine")
    assert operator.reaches(operator.sshd.host(via=via, key=key))
    backwards = ",".join(reversed(via.split(",")))
    assert "cannot be reached" in operator.refused(operator.sshd.host(via=backwards, key=key))


def test_jump_hosts_of_the_configuration_go_in_their_order_and_have_their_own(operator: Operator, hops: tuple[Sshd, Sshd]) -> None:
    bastions(operator, hops)
    user, key, other = operator.sshd.host().ssh.user, operator.key("mine"), operator.key("theirs")
    first, second = (f"Host {name}\n HostName 127.0.0.1\n Port {one.port}\n" for name, one in zip(("one", "two"), hops, strict=True))
    to = f"Host vm\n HostName 127.0.0.1\n Port {operator.sshd.port}\n User {user}\n IdentityFile {key}\n"
    operator.config(f"{to} ProxyJump one,two\n{first}{second}Host one two\n User {user}\n IdentityFile {other}\n")
    assert operator.reaches(operator.sshd.host(host="vm", user=None, port=None))
    operator.config(f"{to} ProxyJump two\n{first}{second} ProxyJump one\nHost one two\n User {user}\n IdentityFile {other}\n")
    assert operator.reaches(operator.sshd.host(host="vm", user=None, port=None))
    operator.config(f"{to} ProxyJump two\n{first} ProxyJump two\n{second} ProxyJump one\n")
    assert "jump hosts that lead to each other" in operator.refused(operator.sshd.host(host="vm", user=None, port=None))
    operator.config(f"{to} ProxyJump one,two\n{first}{second}Host one\n User {user}\n IdentityFile {other}\nHost two\n User nobody\n")
    said = operator.refused(operator.sshd.host(host="vm", user=None, port=None))
    assert said.startswith(f"c1: jump host [127.0.0.1]:{hops[1].port}: user nobody may not sign in")


def test_the_key_of_a_jump_host_is_checked_and_what_to_do_about_it_is_told(operator: Operator, hops: tuple[Sshd, Sshd]) -> None:
    via, key = bastions(operator, hops), operator.key("mine")
    (operator.base / "known_hosts").write_text(operator.sshd.known_hosts.read_text())
    said = operator.refused(operator.sshd.host(via=via, key=key))
    assert f"c1: jump host [127.0.0.1]:{hops[0].port}: the host key of [127.0.0.1]:{hops[0].port} is unknown: it shows SHA256:" in said
    assert said.endswith("compare it and sign in to it once by ssh, which records it")


def test_a_command_may_be_the_way(operator: Operator) -> None:
    key = operator.key("mine")
    (operator.base / "relay").write_text(RELAY)
    operator.config(f"ProxyCommand {sys.executable} '{operator.base}/relay' %h %p\n")
    assert operator.reaches(operator.sshd.host(key=key))
    operator.config("ProxyCommand echo no route for %r to %n >&2; exit 1\n")
    assert operator.refused(operator.sshd.host(key=key)).startswith("c1: cannot be reached by `echo no route for root to 127.0.0.1")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_every_kind_sign_in(operator: Operator, kind: str) -> None:
    assert operator.reaches(operator.sshd.host(key=operator.key("mine", kind)))


@pytest.mark.usefixtures("agent")
def test_the_keys_of_an_agent_sign_in(operator: Operator) -> None:
    add(operator.key("strange", let_in=False))
    add(operator.key("mine", "ecdsa"))
    assert operator.reaches(operator.sshd.host())
    operator.config("IdentitiesOnly yes\n")
    assert "may not sign in" in operator.refused(operator.sshd.host())


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("pem", [False, True])
def test_a_key_with_a_passphrase_is_the_agents_if_that_has_it(operator: Operator, *, pem: bool) -> None:
    key = operator.key("mine", "rsa", WORD)
    if pem:
        subprocess.run(
            ["ssh-keygen", "-q", "-p", "-m", "PEM", "-P", "secret", "-N", "secret", "-f", key], check=True, stdout=subprocess.DEVNULL
        )
    add(key, WORD)
    assert operator.reaches(operator.sshd.host(key=key))


def test_a_passphrase_is_asked_for_once_for_all_hosts_and_not_where_another_key_does(operator: Operator) -> None:
    key = operator.key("locked", passphrase=WORD)
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return WORD

    ask = Once(answer)
    for _ in range(2):
        assert operator.reaches(operator.sshd.host(key=key), ask)
    assert asked == [f"the passphrase of {key}"]
    operator.config(f"IdentityFile {operator.key('locked2', passphrase=WORD)}\nIdentityFile {operator.key('open')}\n")
    assert operator.reaches(operator.sshd.host(), nobody)


def test_a_wrong_passphrase_or_nobody_to_ask_is_a_mistake_that_holds_no_secret(operator: Operator) -> None:
    key = operator.key("locked", passphrase=WORD)
    said = operator.refused(operator.sshd.host(key=key), lambda _: "canary")
    assert said == f"c1: {key}: that is not its passphrase; run it again, or add the key to ssh-agent"
    said = operator.refused(operator.sshd.host(key=key))
    assert said == f"c1: the passphrase of {key} is wanted, and nobody can be asked for it; add the key to ssh-agent"


def test_a_host_that_does_not_let_us_in_is_asked_once_however_often_it_is_wanted(operator: Operator) -> None:
    """Whoever watches its log for intruders would lock us out."""
    key = operator.key("strange", let_in=False)
    one = operator.line(operator.sshd.host(key=key))
    before = operator.sshd.log.count("Connection from")
    for _ in range(3):
        with pytest.raises(Mistake, match="may not sign in"):
            one.execute("true")
    assert operator.sshd.log.count("Connection from") == before + 1


def test_a_changed_key_of_each_kind_is_refused_with_both_fingerprints(operator: Operator) -> None:
    key = operator.key("mine")
    for kind in ("ed25519", "ecdsa", "rsa"):
        (operator.base / "known_hosts").write_text(f"[127.0.0.1]:{operator.sshd.port} {make_key(operator.base / f'other-{kind}', kind)}")
        said = operator.refused(operator.sshd.host(key=key))
        assert said.startswith("c1: its host key has changed: it shows SHA256:")
        assert said.count("SHA256:") == 2
