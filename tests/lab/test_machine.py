from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hardway.lab.machine import Lab, Machine, Process


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name, value in {"kernel/panic": "1\n", "vm/overcommit_memory": "0\n", "fs/inotify/max_user_instances": "128\n"}.items():
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(value)
    return Machine(run=tmp_path / "run", sysctl=tmp_path / "sys")


def lab(cluster: str, owner: Process | None = None) -> Lab:
    return Lab(
        cluster=cluster,
        state=Path("/state") / cluster,
        network=IPv4Network("10.241.9.0/24"),
        cgroups=(Path("/c/1"), Path("/c/2")),
        owner=owner,
    )


def enter(machine: Machine, cluster: str) -> None:
    with machine.locked():
        machine.enter(lab(cluster))


def leave(machine: Machine, cluster: str) -> tuple[str, ...]:
    with machine.locked():
        return machine.leave(cluster)


def test_the_last_lab_to_leave_puts_the_kernel_settings_back_as_the_first_found_them(machine: Machine) -> None:
    enter(machine, "one")
    (machine.sysctl / "kernel/panic").write_text("10\n")
    enter(machine, "two")
    (machine.sysctl / "vm/overcommit_memory").write_text("1\n")

    assert leave(machine, "one") == ()
    assert (machine.sysctl / "kernel/panic").read_text() == "10\n"

    assert leave(machine, "two") == ("fs.inotify.max_user_instances", "kernel.panic", "vm.overcommit_memory")
    assert (machine.sysctl / "kernel/panic").read_text() == "1\n"
    assert not machine.run.exists()


def test_limits_that_all_hosts_share_are_raised_never_lowered_and_put_back(machine: Machine) -> None:
    limit = machine.sysctl / "fs/inotify/max_user_instances"
    enter(machine, "one")
    assert int(limit.read_text()) == 8192

    limit.write_text("20000\n")
    enter(machine, "two")
    assert limit.read_text() == "20000\n"

    leave(machine, "one")
    assert leave(machine, "two") == ("fs.inotify.max_user_instances",)
    assert limit.read_text() == "128\n"


def test_a_lab_that_died_while_it_left_still_puts_the_settings_back(machine: Machine) -> None:
    enter(machine, "one")
    (machine.sysctl / "kernel/panic").write_text("10\n")
    (machine.records("one") / "lab.json").unlink()

    assert leave(machine, "one") == ("fs.inotify.max_user_instances", "kernel.panic")
    assert not machine.run.exists()


def test_the_register_gives_back_what_was_entered(machine: Machine) -> None:
    wanted = lab("one", Process.of(os.getpid()))
    with machine.locked():
        machine.enter(wanted)

    assert machine.labs() == (wanted,)
    assert machine.lab("two") is None


def test_a_number_that_another_process_has_now_is_not_the_recorded_process(tmp_path: Path) -> None:
    me = Process.of(os.getpid())
    assert me is not None

    (tmp_path / "record").write_text(f"{me.pid} {me.start}\n")
    assert Process.recorded(tmp_path / "record") == me

    (tmp_path / "record").write_text(f"{me.pid} {me.start - 1}\n")
    assert Process.recorded(tmp_path / "record") is None


def test_a_process_that_ends_while_it_is_looked_at_is_killed_without_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = Process.of(child.pid)
    assert process
    process.kill()
    assert child.wait() == -signal.SIGKILL
    monkeypatch.setattr(Process, "runs", True)  # as it was a moment ago
    process.kill()


def test_a_process_that_has_ended_and_is_not_yet_buried_does_not_run() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert Process.of(child.pid) is None
    child.wait()


def test_labs_that_enter_at_once_do_not_lose_each_other(machine: Machine) -> None:
    program = (
        "import sys, json, pathlib\nfrom hardway.lab.machine import Lab, Machine\n"
        "run, sysctl, text = sys.argv[1:]\nm = Machine(run=pathlib.Path(run), sysctl=pathlib.Path(sysctl)); lab = Lab.load(text)\n"
        "for _ in range(50):\n"
        "    with m.locked(): m.enter(lab)\n"
        "    with m.locked(): assert m.lab(lab.cluster) == lab; m.leave(lab.cluster)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(machine.run), str(machine.sysctl), json.dumps(json.loads(lab(name).dump()))],
            cwd=Path(__file__).parents[2],
        )
        for name in ("one", "two")
    ]

    assert [child.wait() for child in children] == [0, 0]
    assert not machine.run.exists()
