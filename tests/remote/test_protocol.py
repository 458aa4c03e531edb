"""Replies that a host may give, as values or as an operator's errors."""

from __future__ import annotations

import pytest

from hardway.errors import Mistake
from hardway.remote import protocol
from tests.remote.fakehost import FakeHost


def test_a_host_that_systemd_does_not_run_is_a_mistake(host: FakeHost) -> None:
    host.program("systemctl", "#!/bin/sh\n[ $1 != --version ] || { echo 'systemd 252 (252.39)'; exit; }\nexit 1\n")
    assert host.machine().observe(frozenset()).units == {}
    with pytest.raises(Mistake, match=r"^c1: systemctl does not answer; use a host that systemd runs$"):
        host.machine().observe(frozenset(), ("etcd.service",))
    host.program("systemctl", "#!/bin/sh\nexit 127\n")
    with pytest.raises(Mistake, match=r"^c1: it has no systemd; use a host that systemd runs$"):
        host.machine().observe(frozenset(), ("etcd.service",))


def test_an_architecture_that_nothing_is_built_for_is_a_mistake(host: FakeHost) -> None:
    host.program("uname", "#!/bin/sh\necho riscv64\n")
    with pytest.raises(Mistake, match="its architecture is riscv64"):
        host.machine().observe(frozenset())
    host.program("uname", "#!/bin/sh\necho aarch64\n")
    assert host.machine().observe(frozenset()).facts.arch == "arm64"


def test_a_sudo_that_asks_for_no_password_is_given_none(host: FakeHost) -> None:
    host.program("sudo", '#!/bin/sh\n[ "$1 $2 $4" = "-S -p --" ] || exit 1\nshift 4\nexec "$@"\n')
    machine = host.machine()
    machine.sudo = True
    assert machine.run("echo", "a  b") == "a  b\n"
    host.program("sudo", "#!/bin/sh\necho 'ops is not in the sudoers file.' >&2\nexit 1\n")
    with pytest.raises(Mistake, match=r"^c1: no shell for us: ops is not in the sudoers file\.; give the user passwordless sudo, or run"):
        machine.observe(frozenset())


def test_a_command_that_fails_without_a_word_of_ours_is_told_by_its_own(host: FakeHost) -> None:
    host.path("/var/lib/hardway").write_text("in the way")
    with pytest.raises(Mistake, match=r"File exists|Not a directory"):
        host.machine().apply(protocol.Apply())


def test_units_that_are_not_there_are_left_out_unless_they_run(host: FakeHost) -> None:
    host.unit("gone.service", LoadState="not-found", UnitFileState="")
    host.unit("off.service", ActiveState="inactive", UnitFileState="disabled")
    units = host.machine().observe(frozenset(), ("none.service", "gone.service", "off.service")).units
    assert set(units) == {"gone.service", "off.service"}
    assert units["gone.service"].active == "active"
    assert not units["off.service"].enabled
