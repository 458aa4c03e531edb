"""A unit that ran and does not come up with its new files is back with the old ones; with the real host.sh."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest

from hardway.errors import Mistake, Retreat
from hardway.remote.machine import Machine
from hardway.remote.protocol import Action, Apply, Removal
from tests.remote.fakehost import SYSTEMCTL, FakeHost
from tests.remote.test_crash import counted
from tests.remote.test_machine import DASH_AND_IN_FULL_THE_OTHERS, A, B, C, blob, move, sha

UNIT = "x.service"
GONE = PurePosixPath("/etc/x/gone")
OWED = frozenset({UNIT})
RESTART = (Action(verb="restart", unit=UNIT),)
# As systemd: a unit starts with what lies there, and says so.
JUDGE = """
case "$1 $unit" in
  *start*" x.service")
    printf 'ActiveState=failed\\n' >"$HARDWAY_ROOT/units/x.service"
    ! grep -qs bad "$HARDWAY_ROOT/etc/x/a" || { echo "Job for $unit failed." >&2; exit 1; }
    set -- LoadState=loaded ActiveState=active SubState=running UnitFileState=enabled NRestarts=0
    printf '%s\\n' "$@" >"$HARDWAY_ROOT/units/x.service" ;;
esac
"""


@pytest.fixture
def running(proved: FakeHost, tmp_path: Path) -> FakeHost:
    """A host whose unit runs and was proved with /etc/x/a, a binary and a file that the next change takes away."""
    return FakeHost.copied(tmp_path, proved)


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """The one that the others are copies of."""
    host = FakeHost(base=tmp_path_factory.mktemp("proved"))
    host.program("systemctl", SYSTEMCTL + JUDGE)
    host.unit(UNIT)
    machine = host.machine()
    store = host.base / "binary"
    machine.store([blob(store, b"binary")])
    old = Apply(
        moves=(move(A, b"old", mode=0o640), move(C, b"binary", mode=0o755), move(GONE, b"gone")),
        contents=(b"old", b"gone"),
        owed=OWED,
        actions=RESTART,
    )
    machine.apply(old)
    machine.settle([UNIT])
    machine.store([blob(store, b"binary, newer")])
    (host.root / "log").unlink()
    return host


def change(text: bytes, before: bytes = b"old") -> Apply:
    """Everything that can be changed: a text and its mode, a binary, a file that comes, one that goes."""
    return Apply(
        moves=(move(A, text, before), move(B, b"new"), move(C, b"binary, newer", b"binary", mode=0o755)),
        removals=(Removal(path=GONE, before=sha(b"gone")),),
        contents=(text, b"new"),
        owed=OWED,
        actions=RESTART,
    )


def as_before(host: FakeHost) -> None:
    seen = host.machine().observe(frozenset({A, B, C, GONE}))
    assert {path: (disk.sha256, disk.mode) for path, disk in seen.files.items()} == {
        A: (sha(b"old"), 0o640),
        C: (sha(b"binary"), 0o755),
        GONE: (sha(b"gone"), 0o644),
    }
    assert seen.managed == {A, C, GONE}
    assert not seen.died
    assert not host.leftovers()


def settled(machine: Machine, host: FakeHost) -> None:
    machine.settle([UNIT])
    assert machine.observe(frozenset()).owed == frozenset()
    assert not [path for path in host.path("/var/lib/hardway").rglob("*") if path.is_file() and b"old" in path.read_bytes()]


@pytest.mark.parametrize("shell", DASH_AND_IN_FULL_THE_OTHERS)
def test_a_unit_that_does_not_start_with_its_new_files_runs_with_the_old_ones(running: FakeHost, shell: str) -> None:
    machine = running.machine(shell)

    with pytest.raises(Retreat) as caught:
        machine.apply(change(b"bad"))

    assert [str(finding) for finding in caught.value.findings] == [
        "c1: x.service: restart failed: Job for x.service failed.",
        "c1: x.service: | listen tcp :2379: bind: address already in use",
        "c1: x.service: | giving up",
    ]
    as_before(running)
    assert running.log() == ["restart x.service", "restart x.service"]
    assert machine.observe(frozenset()).owed == {UNIT}  # until its gate has passed
    settled(machine, running)
    machine.apply(change(b"good"))
    settled(machine, running)


def test_a_unit_that_was_proved_has_no_way_back(running: FakeHost) -> None:
    machine = running.machine()
    machine.apply(change(b"good"))
    settled(machine, running)

    with pytest.raises(Mistake) as caught:  # its journal is told all the same
        machine.retract(UNIT)

    assert not isinstance(caught.value, Retreat)
    assert running.path(A).read_bytes() == b"good"


def test_a_unit_whose_gate_stays_closed_goes_back_when_it_is_told_to(running: FakeHost) -> None:
    machine = running.machine()
    machine.apply(change(b"wrong, but it starts"))

    with pytest.raises(Retreat, match=r"x\.service: \| giving up"):
        machine.retract(UNIT)

    as_before(running)
    settled(machine, running)


@pytest.mark.parametrize("state", [{"ActiveState": "failed"}, {"ActiveState": "activating", "NRestarts": "7"}])
def test_a_unit_that_does_not_stay_up_goes_back(running: FakeHost, state: dict[str, str]) -> None:
    machine = running.machine()
    machine.apply(change(b"ends after a while"))
    running.unit(UNIT, **state)
    running.program("sleep", "#!/bin/sh\n")

    with pytest.raises(Retreat, match=rf"it does not stay up: it is {state['ActiveState']}, and systemd has restarted it"):
        machine.settle([UNIT], steady=3)

    as_before(running)
    settled(machine, running)


def test_a_unit_is_settled_once_it_has_been_up_for_long_enough(running: FakeHost) -> None:
    running.unit(UNIT, ActiveEnterTimestampMonotonic=str(int(uptime() * 1_000_000) + 10_000_000))  # ten seconds from now
    asked = running.base / "asked"
    then = f'sed -i "s/Monotonic=.*/Monotonic=1/" "{running.root}/units/{UNIT}"'
    running.program("sleep", f'#!/bin/sh\necho >>"{asked}"; [ "$(wc -l <"{asked}")" -lt 3 ] || {then}\n')
    machine = running.machine()
    machine.apply(Apply(owed=OWED))

    machine.settle([UNIT], steady=3)

    assert len(asked.read_text().splitlines()) == 3
    assert machine.observe(frozenset()).owed == frozenset()


def test_a_unit_is_not_settled_a_moment_too_early(running: FakeHost) -> None:
    """Up since the very end of a second, at the beginning of the next."""
    while (up := uptime()) % 1 > 0.3:
        time.sleep(0.05)
    since = int(up) - 0.001
    running.unit(UNIT, ActiveEnterTimestampMonotonic=str(int(since * 1_000_000)))
    machine = running.machine()
    machine.apply(Apply(owed=OWED))

    machine.settle([UNIT], steady=1)

    assert uptime() >= since + 0.99


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def test_what_was_never_proved_is_not_gone_back_to(running: FakeHost) -> None:
    """The second change comes before the first one was proved; what both have changed is as before both."""
    machine = running.machine()
    machine.apply(change(b"starts, but nobody has proved it"))
    second = Apply(moves=(move(A, b"bad", b"starts, but nobody has proved it"),), contents=(b"bad",), owed=OWED, actions=RESTART)

    with pytest.raises(Retreat):
        machine.apply(second)

    as_before(running)


def test_a_way_back_outlives_a_power_cut(running: FakeHost) -> None:
    machine = running.machine()
    machine.apply(change(b"starts, but nobody has proved it"))
    shutil.rmtree(running.path("/run"))

    assert machine.observe(frozenset()).owed == {UNIT}


def test_a_unit_that_never_ran_keeps_what_it_got(running: FakeHost) -> None:
    first = Apply(moves=(move(A, b"bad", b"old"),), contents=(b"bad",), owed=OWED, actions=(Action(verb="start", unit=UNIT),))
    with pytest.raises(Mistake, match="start failed") as caught:
        running.machine().apply(first)
    assert not isinstance(caught.value, Retreat)
    assert running.path(A).read_bytes() == b"bad"


def test_a_copy_that_was_damaged_is_not_gone_back_to(running: FakeHost) -> None:
    machine = running.machine()
    machine.apply(change(b"wrong, but it starts"))
    (kept,) = [path for path in running.path(f"/var/lib/hardway/back/{UNIT}/old").iterdir() if path.name == sha(b"old")]
    kept.write_bytes(b"odd")

    with pytest.raises(Mistake, match="what was kept of the files before was damaged"):
        machine.retract(UNIT)

    assert running.path(A).read_bytes() == b"wrong, but it starts"
    assert not running.leftovers()


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.full)])
def test_a_retreat_killed_at_any_command_is_all_new_or_all_old(running: FakeHost, step: int) -> None:
    """What was killed is finished by the next apply; in the end the host is as before, or it is asked again and then is."""
    kept = running.base / "kept"
    shutil.copytree(running.root, kept, symlinks=True)
    whole = False
    for point in range(1, 400, step):
        shutil.rmtree(running.root)
        shutil.copytree(kept, running.root, symlinks=True)
        running.program("systemctl", SYSTEMCTL + JUDGE)
        machine = running.machine()
        counted(running, point)
        running.environment = {"PATH": f"{running.base / 'counted'}:{running.base / 'bin'}:{os.environ['PATH']}"}
        running.noise = "GROUP=$$; export GROUP; "
        try:
            machine.apply(change(b"bad"))
        except Mistake as mistake:
            whole = isinstance(mistake, Retreat)
        running.environment, running.noise = {}, ""
        for _ in range(2):
            with suppress(Mistake):
                machine.apply(Apply())
        with suppress(Mistake):
            machine.retract(UNIT)
        as_before(running)
        if whole:
            break
    assert whole
