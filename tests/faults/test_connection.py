"""Faults between the operator and a host, over a real sshd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote.machine import Machine, no_password
from hardway.remote.ssh import SshLine, hostkeys, line
from tests.faults.fleet import CONFIG, HOSTS, NEW, OLD, Fleet, Wanted
from tests.remote.sshd import Sshd, free_port, make_key, start
from tests.remote.users import PASSWORD, users, wants_root

pytestmark = pytest.mark.lab
FIRST, SECOND, THIRD = HOSTS
# Walks up from a stand-in to the sshd of its session, and kills that; once it is gone, whoever is left has none above.
KILL_SSHD = """p=$PPID
while [ "$p" -gt 1 ] && [ "$(cat /proc/$p/comm)" != sshd ]; do p=$(cut -d" " -f4 /proc/$p/stat); done
[ "$p" -le 1 ] || kill -9 $p
"""


@dataclass
class Reach:
    """How each host is reached: one server on loopback, but for what a test breaks."""

    sshd: Sshd
    base: Path
    port: dict[str, int] = field(default_factory=dict)
    user: dict[str, str] = field(default_factory=dict)
    identity: Path | None = None
    lines: list[SshLine] = field(default_factory=list)

    def known(self, host: Host) -> Path:
        path = self.base / f"known_hosts.{host.name}"
        if not path.exists():
            path.write_text(self.sshd.known_hosts.read_text())
        return path

    def __call__(self, host: Host) -> SshLine:
        there = self.sshd.host(host.name)
        ssh = replace(there.ssh, port=self.port.get(host.name, self.sshd.port), user=self.user.get(host.name, there.ssh.user))
        made = line(replace(there, ssh=ssh), identity=self.identity or self.sshd.identity, known_hosts=self.known(host), timeout=5)
        self.lines.append(made)
        return made


@pytest.fixture
def reach(tmp_path: Path, fleet: Fleet) -> Iterator[Reach]:
    (base := tmp_path / "sshd").mkdir()
    # All hosts have the same stand-ins; which host it is, a stand-in learns from its root.
    path = f"{fleet.hosts[FIRST.name].base / 'bin'}:{os.environ['PATH']}"
    server = start(base, f"LogLevel VERBOSE\nSetEnv PATH={path}\n")
    made = fleet.reach = Reach(server, tmp_path)
    fleet.again()
    yield made
    fleet.close()
    server.stop()


LARGE = {**NEW, CONFIG: b"x" * (2 << 20) + b"\n"}


@pytest.mark.usefixtures("reach")
@pytest.mark.parametrize(
    ("program", "when", "ends"),
    [
        pytest.param("head", '[ "$2" -gt 1000000 ]', OLD, id="while the request is sent"),
        pytest.param("mv", "true", LARGE, id="while files take their places"),
    ],
)
def test_fault_01_ssh_drops_in_the_middle_of_a_push(fleet: Fleet, program: str, when: str, ends: Wanted) -> None:
    """Before a change is committed it has not begun; after that it is whole, also if nobody hears of it."""
    real = shutil.which(program)
    here = f'[ "${{HARDWAY_ROOT##*/{SECOND.name}/}}" = root ]'
    fleet.hosts[FIRST.name].program(program, f'#!/bin/sh\n! {{ {here} && {when}; }} || {{ {KILL_SSHD} }}\nexec {real} "$@"\n')
    said = fleet.refused(LARGE)
    assert said.startswith(f"{SECOND.name}: ")
    assert said.count("\n") == 0
    assert fleet.carried(THIRD) == OLD
    # In its place, and whole at once: a host that goes on by itself may be about to run it.
    fleet.hosts[FIRST.name].program(f"{program}.new", f'#!/bin/sh\nexec {real} "$@"\n')
    directory = fleet.hosts[FIRST.name].base / "bin"
    (directory / f"{program}.new").replace(directory / program)
    root = fleet.hosts[SECOND.name].root
    fleet.again()
    fleet.machine(SECOND).run("flock", f"{root}/run/hardway/lock", "true")  # its lock goes with its connection
    deadline = time.monotonic() + 60
    while (root / "var/lib/hardway/txn").exists():  # what was left alone comes to its end
        assert time.monotonic() < deadline
        fleet.machine(SECOND).run("true")
    assert fleet.carried(SECOND) == ends
    fleet.converges(LARGE)


def test_fault_02_hosts_that_cannot_be_reached(fleet: Fleet, reach: Reach) -> None:
    reach.port = {FIRST.name: free_port(), THIRD.name: free_port()}
    fleet.again()
    first, second = fleet.refused(NEW).splitlines()  # all that are down, at once
    assert first.startswith(f"{FIRST.name}: cannot be reached at 127.0.0.1 port {reach.port[FIRST.name]}: ")
    assert second.startswith(f"{THIRD.name}: cannot be reached at 127.0.0.1 port {reach.port[THIRD.name]}: ")
    assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    reach.port = {}
    fleet.converges(NEW)


def test_fault_04_wrong_host_key(fleet: Fleet, reach: Reach, tmp_path: Path) -> None:
    reach.known(SECOND).write_text(f"[127.0.0.1]:{reach.sshd.port} {make_key(tmp_path / 'other')}")
    said = fleet.refused(NEW)
    assert said.startswith(f"{SECOND.name}: its host key has changed: it shows SHA256:")
    assert said.count("SHA256:") == 2
    assert "run ./inv hosts.trust" in said
    assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    _trust(reach, SECOND)
    fleet.converges(NEW)


def test_fault_05_unknown_host_key(fleet: Fleet, reach: Reach) -> None:
    reach.known(FIRST).write_text("")
    said = fleet.refused(NEW)
    assert f"{FIRST.name}: the host key of [127.0.0.1]:{reach.sshd.port} is unknown: it shows SHA256:" in said
    assert reach.known(FIRST).read_text() == ""  # nothing is accepted by itself
    assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    _trust(reach, FIRST)
    fleet.converges(NEW)


def _trust(reach: Reach, host: Host) -> None:
    """As ./inv hosts.trust does."""
    asked = line(reach.sshd.host(host.name), identity=None, known_hosts=reach.known(host), config=reach.base / "none")
    hostkeys.record([hostkeys.compared(host, *asked.shown_key())], reach.known(host))


def test_fault_06_wrong_user_or_key(fleet: Fleet, reach: Reach, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    reach.identity = tmp_path / "stranger"
    fleet.again()
    before = reach.sshd.log.count("Connection from")
    assert fleet.refused(NEW).count("may not sign in") == len(HOSTS)  # one line for each
    for host in HOSTS:
        with pytest.raises(Mistake, match="may not sign in"):
            fleet.machine(host).dial(6443)
    assert reach.sshd.log.count("Connection from") - before == len(HOSTS)  # whoever counts attempts has one of each host
    assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    reach.identity = None
    fleet.converges(NEW)


def through_sudo(fleet: Fleet, server: Sshd, accounts: tuple[str, str, str], password: Callable[[], str] = no_password) -> None:
    """Let each host be reached as a user who is not root."""
    fleet.close()
    for host, user in zip(HOSTS, accounts, strict=True):
        there = line(server.host(host.name, user=user), identity=server.identity, known_hosts=server.known_hosts)
        root = str(fleet.hosts[host.name].root)
        fleet.machines[host.name] = Machine(name=host.name, line=there, root=root, sudo=True, password=password)


def stand_ins(fleet: Fleet) -> str:
    """What a server says so that its users find the stand-ins, and sudo leaves it at that."""
    return f"SetEnv PATH={fleet.hosts[FIRST.name].base / 'bin'}:{os.environ['PATH']}\n"


SUDOERS = "Defaults !env_reset\nfree ALL=(ALL) NOPASSWD: ALL\nasked ALL=(ALL) ALL\nodd ALL=(ALL) NOPASSWD: ALL"


@wants_root
def test_fault_07_sudo_wants_a_password_or_refuses(fleet: Fleet) -> None:
    with users(dict.fromkeys(("free", "asked", "none"), "/bin/sh"), SUDOERS, stand_ins(fleet)) as server:
        through_sudo(fleet, server, ("asked", "none", "free"))
        first, second = fleet.refused(NEW).splitlines()  # and no hang
        assert first.startswith(f"{FIRST.name}: sudo wants a password, and nobody can be asked for it; give the user passwordless sudo")
        assert second.startswith(f"{SECOND.name}: sudo wants a password")
        through_sudo(fleet, server, ("asked", "none", "free"), lambda: PASSWORD)
        assert fleet.refused(NEW).startswith(f"{SECOND.name}: no shell for us: none is not in the sudoers file.")
        assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
        through_sudo(fleet, server, ("asked", "asked", "free"), lambda: PASSWORD)
        fleet.patch.setattr(fleet, "again", lambda: None)
        fleet.converges(NEW)
        fleet.close()


def test_fault_08_no_python_on_the_host(fleet: Fleet, reach: Reach) -> None:
    (reach.sshd.base / "touched").unlink(missing_ok=True)
    for name in ("python3", "python", "perl", "curl", "openssl", "scp", "sftp-server"):
        fleet.hosts[FIRST.name].program(name, f"#!/bin/sh\necho $0 >>{reach.sshd.base}/touched\nexit 127\n")
    fleet.converges(NEW)
    assert not (reach.sshd.base / "touched").exists()


@wants_root
def test_fault_09_a_login_shell_that_is_not_posix_and_noise(fleet: Fleet) -> None:
    noise = "#!/bin/sh\necho 'ready ready end 0'; echo warning >&2\nexec /usr/bin/fish \"$@\"\n"
    with users({"odd": noise}, SUDOERS, stand_ins(fleet)) as server:
        through_sudo(fleet, server, ("odd", "odd", "odd"))
        fleet.patch.setattr(fleet, "again", lambda: None)
        fleet.converges(NEW)
        fleet.close()


HOLD = """
import sys, time
from pathlib import Path
from hardway.remote.machine import Machine
from hardway.remote.ssh import line
from tests.remote.sshd import Sshd
base, port, root = sys.argv[1:]
sshd = Sshd(Path(base), int(port), None)
made = line(sshd.host(), identity=sshd.identity, known_hosts=sshd.known_hosts)
with Machine(name="c1", line=made, root=root).lock("push"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_fault_31_a_lock_whose_holder_was_killed(fleet: Fleet, reach: Reach) -> None:
    """It is free as soon as the host notices: there is no such thing as a stale one."""
    argv = [sys.executable, "-c", HOLD, str(reach.sshd.base), str(reach.sshd.port), str(fleet.hosts[FIRST.name].root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        assert "another operator is at work" in fleet.refused(NEW)
        holder.send_signal(signal.SIGKILL)
    fleet.machine(FIRST).run("flock", f"{fleet.hosts[FIRST.name].root}/run/hardway/lock", "true")
    assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    fleet.converges(NEW)
