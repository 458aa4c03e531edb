"""A change that is killed at any of its commands leaves all old, or all new once it is finished."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.remote.protocol import Action, Apply, Move, Removal
from tests.remote.fakehost import FakeHost
from tests.remote.test_machine import ME, SHELLS, A, B, C, blob, move, sha

# Every external command of host.sh. Each stand-in adds a byte to a file; the one that fills it kills the whole process group.
COMMANDS = """
base64
cat chmod chown cp cut date find head ln mkdir mv rm sed seq sha256sum sleep sort stat sync systemctl systemd-sysusers tar tee tr xargs
"""


def counted(host: FakeHost, point: int) -> None:
    (host.base / "count").write_text("")
    for name in COMMANDS.split():
        own = host.base / "bin" / name
        real = own if own.exists() else shutil.which(name)
        host.program(
            name,
            f'#!/bin/sh\nprintf . >>"{host.base}/count"; [ "$({shutil.which("stat")} -c %s "{host.base}/count")" -lt {point} ] || '
            f'{{ kill -9 "-$GROUP"; exit 9; }}\nexec {real} "$@"\n',
            "counted",
        )


def change(text: str, before: str) -> Apply:
    a, b = f"{text} a".encode(), f"{text} b".encode()
    return Apply(
        moves=(
            Move(path=A, owner=ME, mode=0o600, before=sha(f"{before} a".encode()), after=sha(a)),
            Move(path=B, owner=ME, mode=0o644, before=sha(f"{before} b".encode()), after=sha(b)),
            move(C, b"binary", mode=0o755),
        ),
        removals=(Removal(path=type(A)("/etc/x/gone"), before=sha(b"gone")),),
        owed=frozenset({"etcd.service"}),
        actions=(Action(verb="stop", unit="old.service"), Action(verb="restart", unit="etcd.service")),
        contents=(a, b),
    )


def killed_at(host: FakeHost, binary: Path, shell: str, point: int) -> str:
    """Kill an apply at its n-th command, heal it, and say how it ended: old, new, or whole if it was over before."""
    host.wipe()
    counted(host, point)
    host.path("/etc/x").mkdir(parents=True)
    for name, data in (("a", b"old a"), ("b", b"old b"), ("gone", b"gone")):
        host.path(f"/etc/x/{name}").write_bytes(data)
    machine = host.machine(shell)
    machine.store([blob(binary, b"binary")])
    host.environment = {"PATH": f"{host.base / 'counted'}:{host.base / 'bin'}:{os.environ['PATH']}"}
    host.noise = "GROUP=$$; export GROUP; "
    push = change("new", "old")
    whole = False
    with suppress(Mistake):
        machine.apply(push)
        whole = True
    host.environment, host.noise = {}, ""
    if whole:
        return "whole"
    seen = machine.observe(frozenset({A, B, C}))
    if seen.died:
        machine.apply(Apply())
        seen = machine.observe(frozenset({A, B, C}))
    assert not seen.died, point
    state = tuple(host.path(f"/etc/x/{name}").read_bytes() if host.path(f"/etc/x/{name}").exists() else None for name in ("a", "b", "gone"))
    if state == (b"old a", b"old b", b"gone"):
        assert not host.path(C).exists(), point
        assert host.log() == [], point
        machine.apply(push)  # nothing is in the way of a second attempt
        end = "old"
    else:
        assert "restart etcd.service" in host.log(), point
        assert "stop old.service" in host.log(), point
        end = "new"
    seen = machine.observe(frozenset({A, B, C}))
    assert {path: (disk.sha256, disk.mode) for path, disk in seen.files.items()} == {
        A: (sha(b"new a"), 0o600),
        B: (sha(b"new b"), 0o644),
        C: (sha(b"binary"), 0o755),
    }, point
    assert not host.path("/etc/x/gone").exists(), point
    assert seen.managed == {A, B, C}, point
    assert seen.owed == {"etcd.service"}, point
    machine.apply(Apply())  # a kill between the last two commands leaves traces to the next change
    assert not host.leftovers(), point
    return end


@pytest.mark.parametrize(("shell", "step"), [("dash", 16), *(pytest.param(s, 1, marks=pytest.mark.full) for s in SHELLS)])
def test_a_change_killed_at_any_command_is_all_old_or_all_new(host: FakeHost, tmp_path: Path, shell: str, step: int) -> None:
    ends = []
    for point in range(1, 200, step):
        ends.append(killed_at(host, tmp_path / "binary", shell, point))
        if ends[-1] == "whole":
            break
    assert ends == sorted(ends, key=["old", "new", "whole"].index)
    assert {"old", "new", "whole"} == set(ends)
    assert len(ends) * step > 40


@pytest.mark.full
def test_a_healing_killed_at_any_command_heals_at_the_next(host: FakeHost, tmp_path: Path) -> None:
    push = change("new", "old")
    for point in range(1, 200):
        host.wipe()
        host.path("/etc/x").mkdir(parents=True)
        for name, data in (("a", b"old a"), ("b", b"old b"), ("gone", b"gone")):
            host.path(f"/etc/x/{name}").write_bytes(data)
        machine = host.machine()
        machine.store([blob(tmp_path / "binary", b"binary")])
        host.program("mv", f'#!/bin/sh\ncase $* in *managed*) kill -9 "-$GROUP" ;; esac\nexec {shutil.which("mv")} "$@"\n')
        host.noise = "GROUP=$$; export GROUP; "
        with suppress(Mistake):
            machine.apply(push)
        host.program("mv", f'#!/bin/sh\nexec {shutil.which("mv")} "$@"\n')
        assert machine.observe(frozenset()).died
        counted(host, point)
        host.environment = {"PATH": f"{host.base / 'counted'}:{host.base / 'bin'}:{os.environ['PATH']}"}
        whole = False
        with suppress(Mistake):
            machine.apply(Apply())
            whole = True
        host.environment, host.noise = {}, ""
        machine.apply(Apply())
        seen = machine.observe(frozenset({A, B, C}))
        assert {path: disk.sha256 for path, disk in seen.files.items()} == {A: sha(b"new a"), B: sha(b"new b"), C: sha(b"binary")}, point
        assert "restart etcd.service" in host.log(), point
        assert not seen.died, point
        assert not host.leftovers(), point
        if whole:
            return
    pytest.fail("it never ended")


def test_a_kill_while_the_traces_are_removed_leaves_nothing_to_finish(host: FakeHost, tmp_path: Path) -> None:
    rm = shutil.which("rm")
    host.program(
        "rm",
        f'#!/bin/sh\n[ "$1 ${{2##*/}}" = "-rf txn" ] && [ -e "$2/moves" ] && {{ {rm} "$2/moves"; kill -9 "-$GROUP"; }}\nexec {rm} "$@"\n',
    )
    host.noise = "GROUP=$$; export GROUP; "
    machine = host.machine()
    machine.store([blob(tmp_path / "b", b"binary")])
    push = Apply(moves=(move(C, b"binary"),))
    with pytest.raises(Mistake, match="the reply was cut short"):
        machine.apply(push)
    assert not machine.observe(frozenset()).died
    host.noise = "GROUP=99999999; export GROUP; "
    machine.apply(Apply(moves=(move(A, b"a"),), contents=(b"a",)))
    assert not host.leftovers()


def test_a_change_that_died_is_finished_before_the_next_begins(host: FakeHost) -> None:
    host.program("mv", f'#!/bin/sh\nkill -9 "-$GROUP"\nexec {shutil.which("mv")} "$@"\n')
    host.noise = "GROUP=$$; export GROUP; "
    machine = host.machine()
    first = Apply(moves=(move(A, b"one"),), contents=(b"one",), actions=(Action(verb="restart", unit="etcd.service"),))
    with pytest.raises(Mistake, match="the reply was cut short"):
        machine.apply(first)
    assert machine.observe(frozenset()).died
    assert not host.path(A).exists()
    host.noise = "GROUP=99999999; export GROUP; "
    with pytest.raises(Mistake, match="/etc/x/a changed since the plan"):  # the plan saw no file
        machine.apply(Apply(moves=(move(A, b"two"),), contents=(b"two",)))
    assert host.path(A).read_bytes() == b"one"
    assert host.log() == ["restart etcd.service"]
    assert not machine.observe(frozenset()).died


def test_a_dead_change_whose_unit_cannot_start_does_not_block_the_one_that_mends_it(host: FakeHost) -> None:
    host.breaks("etcd.service")
    systemctl = (host.base / "bin" / "systemctl").read_text()
    host.program("systemctl", "#!/bin/sh\nkill -9 -$GROUP\n")
    host.noise = "GROUP=$$; export GROUP; "
    machine = host.machine()
    restart = (Action(verb="start", unit="etcd.service"),)
    with pytest.raises(Mistake, match="the reply was cut short"):
        machine.apply(Apply(moves=(move(A, b"bad"),), contents=(b"bad",), actions=restart, owed=frozenset({"etcd.service"})))
    host.program("systemctl", systemctl)
    with pytest.raises(Mistake, match=r"etcd\.service: start failed"):
        machine.apply(Apply(moves=(move(A, b"good", b"bad"),), contents=(b"good",), actions=restart, owed=frozenset({"etcd.service"})))
    assert host.path(A).read_bytes() == b"good"
    host.breaks("etcd.service", mended=True)
    machine.apply(Apply(actions=restart, owed=frozenset({"etcd.service"})))
    assert machine.observe(frozenset()).owed == {"etcd.service"}
