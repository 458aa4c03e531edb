"""Faults of a host or of an operator's run; each ends with what the hosts carry after the next one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host
from tests.faults.fleet import CONFIG, HOSTS, LEAF, NEW, OLD, UNIT, Fleet
from tests.remote.fakehost import SYSTEMCTL

pytestmark = pytest.mark.lab
FIRST, SECOND, THIRD = HOSTS
wants_root = pytest.mark.skipif(os.geteuid() != 0, reason="wants root, to mount")


@contextmanager
def mounted(at: Path, size: str) -> Iterator[None]:
    """A small file system over a directory, which keeps what was in it."""
    kept = at.with_name(f"{at.name}.kept")
    shutil.copytree(at, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", at], check=True)
    shutil.copytree(kept, at, dirs_exist_ok=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)
        shutil.copytree(kept, at, dirs_exist_ok=True)


def remounted(at: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", at], check=True)


@wants_root
@pytest.mark.parametrize("where", ["/etc/kubernetes/kube-scheduler", "/var/lib/hardway"])
def test_fault_10_disk_full_on_a_host(fleet: Fleet, where: str) -> None:
    large = {CONFIG: b"x" * 300_000 + b"\n", LEAF: NEW[LEAF]}
    at = fleet.hosts[SECOND.name].path(where)
    with mounted(at, "128k"):
        said = fleet.refused(large)
        assert said.startswith(f"{SECOND.name}: ")
        assert "cannot write /etc/kubernetes" in said or "there is no space in" in said
        assert fleet.carried(SECOND) == OLD
        assert (fleet.restarts(SECOND), fleet.carried(THIRD)) == (0, OLD)
        assert not fleet.hosts[SECOND.name].leftovers()
        remounted(at, "size=4m")
        fleet.converges(large)


@wants_root
@pytest.mark.parametrize("where", ["/etc/kubernetes/kube-scheduler", "/var/lib/hardway"])
def test_fault_12_read_only_file_system(fleet: Fleet, where: str) -> None:
    at = fleet.hosts[FIRST.name].path(where)
    with mounted(at, "4m"):
        remounted(at, "ro")
        said = fleet.refused(NEW)
        assert said.startswith(f"{FIRST.name}: ")
        assert "Read-only file system" in said or "cannot write" in said
        assert [fleet.restarts(host) for host in HOSTS] == [0, 0, 0]
        assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
        remounted(at, "rw")
        fleet.converges(NEW)


def test_fault_13_a_half_written_file(fleet: Fleet) -> None:
    fleet.hosts[SECOND.name].path(LEAF).write_bytes(OLD[LEAF][:3])
    first, *_ = fleet.survey(OLD).plans[1].changes
    assert (first.action, first.what, first.why) == ("update", str(LEAF), "its content differs")
    fleet.converges(OLD)
    assert [fleet.restarts(host) for host in HOSTS] == [0, 1, 0]  # it may have read the half


def test_fault_13_a_run_that_was_killed_past_its_commit(fleet: Fleet) -> None:
    second = fleet.hosts[SECOND.name]
    second.program("mv", f'#!/bin/sh\ncase $* in *leaf.pem*) kill -9 "-$GROUP" ;; esac\nexec {shutil.which("mv")} "$@"\n')
    second.noise = "GROUP=$$; export GROUP; "
    assert "the reply was cut short" in fleet.refused(NEW)
    second.program("mv", f'#!/bin/sh\nexec {shutil.which("mv")} "$@"\n')
    second.noise = ""
    assert fleet.carried(SECOND) == {CONFIG: NEW[CONFIG], LEAF: OLD[LEAF]}  # as the kill left it
    assert fleet.carried(THIRD) == OLD
    fleet.converges(NEW)
    assert any(f"{SECOND.name}:" in line and "finish" in line for line in fleet.told)


def test_fault_14_a_certificate_without_its_key_on_a_host(fleet: Fleet) -> None:
    fleet.hosts[FIRST.name].path(LEAF).unlink()
    fleet.converges(OLD)
    assert [fleet.restarts(host) for host in HOSTS] == [1, 0, 0]


def test_fault_29_ctrl_c_in_the_middle(fleet: Fleet) -> None:
    systemctl = fleet.hosts[SECOND.name].base / "bin" / "systemctl"
    plain = systemctl.read_text()
    hit = f'[ "$1" != restart ] || {{ kill -INT {os.getpid()}; sleep 0.3; }}'
    systemctl.write_text(plain.replace("#!/bin/sh\n", f"#!/bin/sh\n{hit}\n"))
    with pytest.raises(KeyboardInterrupt):
        fleet.push(NEW)
    assert [fleet.carried(host) for host in HOSTS] == [NEW, NEW, OLD]  # the one that had begun is finished, the next was not begun
    assert fleet.restarts(THIRD) == 0
    systemctl.write_text(plain)
    fleet.converges(NEW)


def test_fault_30_two_operators_at_once(fleet: Fleet) -> None:
    bob = fleet.connected(THIRD)
    with bob.lock("rotate"):
        said = fleet.refused(NEW)
        assert said.startswith(f"{THIRD.name}: another operator is at work: ")
        assert ", rotate since 20" in said
        assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    fleet.converges(NEW)


def judging(fleet: Fleet, bad: str) -> None:
    """Let systemd's stand-in do something else with the new files: its own words, once a unit is restarted with them."""
    for host in fleet.hosts.values():
        host.program("systemctl", f'{SYSTEMCTL}case $1 in restart) ! grep -q new "$HARDWAY_ROOT{CONFIG}" || {{ {bad}; }} ;; esac\n')


def mended(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.program("systemctl", SYSTEMCTL)
        host.unit(UNIT)


def test_fault_34_a_unit_that_does_not_start(fleet: Fleet) -> None:
    judging(fleet, 'echo "Job for it failed." >&2; exit 1')
    said = fleet.refused(NEW)
    assert f"{FIRST.name}: {UNIT}: restart failed: Job for it failed." in said
    assert "listen tcp :2379: bind: address already in use" in said  # its journal's last lines
    assert "went back to its files before, and is well again; no other host was changed after it" in said
    assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    assert (fleet.restarts(FIRST), fleet.restarts(SECOND)) == (2, 0)
    mended(fleet)
    fleet.converges(NEW)


def test_fault_35_a_unit_that_starts_and_crashes(fleet: Fleet) -> None:
    judging(fleet, f"sed -i s/=active/=failed/ $HARDWAY_ROOT/units/{UNIT}; exit 0")
    for host in fleet.hosts.values():  # and is up again with the old ones
        start = f'case $1 in restart) sed -i s/=failed/=active/ "$HARDWAY_ROOT/units/{UNIT}" ;; esac'
        host.program("systemctl", (host.base / "bin" / "systemctl").read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{start}\n"))
    said = fleet.refused(NEW)
    assert f"{FIRST.name}: {UNIT}: it does not stay up: it is failed" in said
    assert "went back to its files before, and is well again" in said
    assert [fleet.carried(host) for host in HOSTS] == [OLD, OLD, OLD]
    assert fleet.restarts(SECOND) == 0
    mended(fleet)
    fleet.converges(NEW)


def test_a_red_gate_stops_the_push_before_the_next_host(fleet: Fleet) -> None:
    def ask(_: object, host: Host) -> str | None:
        return "it is not ready" if host == SECOND and fleet.carried(SECOND) == NEW else None

    fleet.ask = ask
    said = fleet.refused(NEW)
    assert "gate healthy: still closed" in said
    assert "went back to its files before" in said
    assert [fleet.carried(host) for host in HOSTS] == [NEW, OLD, OLD]
    assert (fleet.restarts(SECOND), fleet.restarts(THIRD)) == (2, 0)  # with the new files, and with the old ones again
    fleet.ask = lambda _live, _host: None
    fleet.converges(NEW)


def test_a_file_that_changes_after_the_plan_is_not_overwritten(fleet: Fleet) -> None:
    found = fleet.survey(NEW)
    fleet.hosts[FIRST.name].path(CONFIG).write_text("by somebody else")
    fleet.patch.setattr(fleet, "survey", lambda _: found)
    with pytest.raises(Mistake, match=r"config\.yaml changed since the plan; run \./inv push again"):
        fleet.push(NEW)
    assert fleet.carried(FIRST)[CONFIG] == b"by somebody else"
    fleet.patch.undo()
    fleet.converges(NEW)
