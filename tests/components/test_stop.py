"""How a member of etcd stops: what was asked may come to its end, and what has none is cut."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardway import render
from hardway.components import etcd
from hardway.components.daemon import SYSTEM
from hardway.inventory import load
from hardway.pki import declared

ROOT = Path(__file__).parents[2]
INVENTORY = load(ROOT / "inventory.yaml")
FILES = render.tree(declared.load(ROOT / "certs"), INVENTORY, INVENTORY.on("controller")[0])

CUT = f"-K -Htn sport = :{etcd.CLIENT_PORT}\n"
SHELLS = ["dash", "bash", "busybox sh"]
STAYS = """
import signal
signal.alarm(60)
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("up", flush=True)
while True:
    signal.pause()
"""
ENDS = "import signal; print('up', flush=True); signal.pause()"


class Host:
    """The script as a controller has it; an ss that writes down what it is told, and a sleep that counts."""

    def __init__(self, directory: Path) -> None:
        self.script = directory / "stop.sh"
        self.script.write_text(FILES[etcd.STOP])
        self.told, self.slept = directory / "told", directory / "slept"
        self.sleep = directory / "sleep"
        for program, text in (("ss", f'echo "$*" >>{self.told}; echo one; echo two'), ("sleep", f"echo >>{self.slept}")):
            (directory / program).write_text(f"#!/bin/sh\n{text}\n")
            (directory / program).chmod(0o755)
        self.path = f"{directory}:{os.environ['PATH']}"
        for file in (self.told, self.slept):
            file.touch()

    def run(self, shell: str, **environment: str) -> str:
        """What it says."""
        argv, given = [*shell.split(), str(self.script)], {**os.environ, "PATH": self.path, **environment}
        return subprocess.run(argv, env=given, check=True, timeout=30, stdout=subprocess.PIPE, text=True).stdout

    @property
    def looks(self) -> int:
        return len(self.slept.read_text().splitlines())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def member(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", request.param], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("member", [STAYS], indirect=True, ids=["stays"])
def test_what_does_not_end_is_cut_when_all_else_has_had_its_time(host: Host, member: subprocess.Popen[str], shell: str) -> None:
    said = host.run(shell, MAINPID=str(member.pid))

    assert member.stdout
    assert member.stdout.readline() == "asked\n"
    assert said == "cut 2 connections of clients\n"
    assert (host.told.read_text(), host.looks) == (CUT, 40)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("member", [ENDS], indirect=True, ids=["ends"])
def test_a_member_for_which_nobody_waits_is_not_waited_for(host: Host, member: subprocess.Popen[str], shell: str) -> None:
    host.sleep.write_text(f"#!/bin/sh\necho >>{host.slept}\nexec /bin/sleep 0.05\n")
    threading.Thread(target=member.wait, daemon=True).start()  # as systemd does

    host.run(shell, MAINPID=str(member.pid))

    assert host.told.read_text() == ""
    assert host.looks < 40


@pytest.mark.parametrize("shell", SHELLS)
def test_a_member_that_has_ended_is_left_alone(host: Host, shell: str) -> None:
    host.run(shell)
    host.run(shell, MAINPID="")

    assert (host.told.read_text(), host.looks) == ("", 0)


def test_the_unit_knows_the_script_and_stops_without_it() -> None:
    (line,) = [line for line in FILES[SYSTEM / "etcd.service"].splitlines() if str(etcd.STOP) in line]
    assert line == f"ExecStop=-+/bin/sh {etcd.STOP}"
