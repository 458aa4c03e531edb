"""Hosts on which we are not root, or whose users have other shells, over a real sshd and the real sudo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.remote.machine import Machine, no_password
from hardway.remote.ssh import line
from tests.remote.fakehost import FakeHost
from tests.remote.sshd import Sshd
from tests.remote.test_machine import A, blob, put, sha
from tests.remote.users import PASSWORD, users, wants_root

pytestmark = [pytest.mark.lab, wants_root]

RULES = """
free ALL=(ALL) NOPASSWD: ALL
asked ALL=(ALL) ALL
tty ALL=(ALL) NOPASSWD: ALL
both ALL=(ALL) ALL
Defaults:tty requiretty
Defaults:both requiretty, use_pty
Defaults:asked timestamp_timeout=0, lecture=always
Defaults:both timestamp_timeout=0, lecture=always
"""
# What a login shell has to understand is `-c` and words in single quotes.
ONLY_C = '#!/bin/sh\n[ "$1" = -c ] && [ $# = 2 ] || { echo "only -c" >&2; exit 64; }\nexec /bin/sh -c "$2"\n'
NOISY = '#!/bin/sh\necho "Welcome, ready for you"; echo "warning: nothing" >&2\nexec /bin/sh "$@"\n'
NO_LOGIN = "#!/bin/sh\necho 'This account is currently not available.'\nexit 1\n"


SHELLS = {
    "plain": "/bin/sh",
    "fish": "/usr/bin/fish",
    "csh": "/bin/tcsh",
    "only-c": ONLY_C,
    "noisy": NOISY,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    asked = dict.fromkeys(("free", "asked", "tty", "both", "none"), "/bin/sh")
    banner = "Banner /etc/sudoers\n"  # any text will do
    with users({**asked, **SHELLS, "nologin": NO_LOGIN}, RULES, banner) as one:
        yield one


@pytest.fixture
def machines(server: Sshd, host: FakeHost) -> Iterator[Machines]:
    made = Machines(server, host)
    yield made
    made.close()


@dataclass
class Machines:
    server: Sshd
    host: FakeHost
    made: list[Machine] = field(default_factory=list)
    questions: int = 0

    def __call__(self, user: str, *, sudo: bool = True, password: str = "") -> Machine:
        reached = line(self.server.host(user=user), identity=self.server.identity, known_hosts=self.server.known_hosts)

        def answer() -> str:
            self.questions += 1
            return password

        self.made.append(
            Machine(name="c1", line=reached, root=str(self.host.root), sudo=sudo, password=answer if password else no_password)
        )
        return self.made[-1]

    def close(self) -> None:
        for machine in self.made:
            machine.close()


def used(machine: Machine, tmp_path: Path) -> None:
    """All that a push does of a host: every byte there as it was sent."""
    data = bytes(range(256)) * 2000
    machine.store([blob(tmp_path / "binary", data)])
    machine.apply(put(A, data, mode=0o600))
    seen = machine.observe(frozenset({A}))
    assert seen.files[A].sha256 == sha(data)
    assert seen.files[A].owner == "root:root"
    assert seen.stored == {sha(data)}
    with machine.lock("push"):
        assert machine.run("printf", "a\\tb\\n") == "a\tb\n"
    with pytest.raises(Mistake, match=r"`ls` ended with 2: .*No such file"):
        machine.run("ls", "/none")


def test_sudo_without_a_password(machines: Machines, tmp_path: Path) -> None:
    machine = machines("free")
    used(machine, tmp_path)
    assert (machine.connects, machine.execs) == (1, 6)


def test_sudo_with_a_password_is_given_it_where_it_asks(machines: Machines, tmp_path: Path) -> None:
    machine = machines("asked", password=PASSWORD)
    used(machine, tmp_path)
    assert machine.execs == 6
    assert machines.questions == 6  # this sudo remembers nobody


def test_a_wrong_password_is_tried_once(machines: Machines) -> None:
    with pytest.raises(Mistake, match=r"^c1: no shell for us: sudo refuses that password; give the user passwordless sudo, or run it"):
        machines("asked", password="wrong").observe(frozenset())  # noqa: S106 - of nobody
    assert machines.questions == 1


def test_a_password_that_nobody_can_be_asked_for_is_a_mistake_and_no_hang(machines: Machines) -> None:
    with pytest.raises(Mistake, match=r"^c1: sudo wants a password, and nobody can be asked for it; give the user passwordless sudo$"):
        machines("asked").observe(frozenset())


def test_a_user_whom_sudo_does_not_know_is_told_so(machines: Machines) -> None:
    with pytest.raises(Mistake, match=r"^c1: no shell for us: none is not in the sudoers file\.; "):
        machines("none", password=PASSWORD).observe(frozenset())


@pytest.mark.parametrize("user", ["tty", "both"])
def test_a_sudo_that_wants_a_terminal_is_given_one_that_changes_no_byte(machines: Machines, tmp_path: Path, user: str) -> None:
    machine = machines(user, password=PASSWORD if user == "both" else "")
    used(machine, tmp_path)
    assert machine.execs == 7  # what was found out once is remembered


@pytest.mark.parametrize("user", SHELLS)
def test_any_login_shell_will_do_and_any_noise(machines: Machines, user: str) -> None:
    machine = machines(user, sudo=False)
    assert machine.run("printf", "%s|", "it's", "a  b", '"$HOME"', "\\", "!", "ü\n") == 'it\'s|a  b|"$HOME"|\\|!|ü\n|'
    assert machine.run("id", "-un") == f"{user}\n"
    assert machine.execs == 2


def test_an_account_without_a_shell_is_told_in_its_own_words(machines: Machines) -> None:
    with pytest.raises(Mistake, match=r"^c1: no shell for us: This account is currently not available\.$"):
        machines("nologin", sudo=False).observe(frozenset())
