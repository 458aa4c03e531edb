"""A daemon that stands still, by processes on a host, and goes on whatever becomes of who asked for it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from hardway.errors import Mistake
from hardway.inventory import load
from hardway.remote.channel import Wire
from hardway.remote.cluster import Cluster
from hardway.remote.machine import Machine
from hardway.waiting import until
from tests.remote.fakehost import FakeHost, LocalChannel
from tests.remote.test_machine import SHELLS

# For a host's `sleep 1`: long enough to be seen on a busy machine; and so long that what goes on before does not do so by itself.
SLOW, PATIENT = ("#!/bin/sh\nexec /bin/sleep 3\n", "#!/bin/sh\nexec /bin/sleep 30\n")
INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")
UNIT = "kube-apiserver.service"


@pytest.fixture
def daemon(host: FakeHost) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        host.unit(UNIT, MainPID=str(process.pid))
        host.program("sleep", SLOW)
        yield process
        process.kill()


def state(daemon: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(") ")[2][0]


def stands_still(daemon: subprocess.Popen[bytes]) -> bool:
    return until(lambda: None if state(daemon) == "T" else "it goes on", within=15, pause=0.01) is None


def goes_on(daemon: subprocess.Popen[bytes]) -> bool:
    return until(lambda: "still" if state(daemon) == "T" else None, within=15, pause=0.01) is None


@pytest.mark.parametrize("shell", SHELLS)
def test_it_stands_still_from_the_word_to_the_end(host: FakeHost, daemon: subprocess.Popen[bytes], shell: str) -> None:
    host.program("sleep", PATIENT)
    pause = host.machine(shell).pause(UNIT)
    assert state(daemon) != "T"

    pause.begin()

    assert stands_still(daemon)
    pause.end()
    assert goes_on(daemon)


@pytest.mark.parametrize("shell", SHELLS)
def test_it_goes_on_by_itself(host: FakeHost, daemon: subprocess.Popen[bytes], shell: str) -> None:
    pause = host.machine(shell).pause(UNIT)
    pause.begin()
    assert stands_still(daemon)

    assert goes_on(daemon)
    pause.end()


@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_it_goes_on_though_the_shell_that_holds_it_is_killed(host: FakeHost, daemon: subprocess.Popen[bytes], killed: int) -> None:
    host.noise = "exec "  # no shell around it
    pause = host.machine().pause(UNIT)
    pause.begin()
    assert isinstance(pause.channel, LocalChannel)
    assert stands_still(daemon)

    pause.channel.process.send_signal(killed)

    assert goes_on(daemon)
    pause.end()


def test_it_goes_on_when_the_connection_ends(host: FakeHost, daemon: subprocess.Popen[bytes]) -> None:
    host.program("sleep", PATIENT)
    pause = host.machine().pause(UNIT)
    pause.begin()
    assert stands_still(daemon)

    pause.channel.close()

    assert goes_on(daemon)


def test_what_never_begins_holds_nothing(host: FakeHost, daemon: subprocess.Popen[bytes]) -> None:
    host.machine().pause(UNIT).channel.close()

    assert state(daemon) != "T"


@pytest.mark.parametrize("shown", [{}, {"MainPID": "0"}])
def test_what_does_not_run_stands_still(host: FakeHost, shown: dict[str, str]) -> None:
    host.unit(UNIT, **shown)

    pause = host.machine().pause(UNIT)
    pause.begin()
    assert isinstance(pause.channel, LocalChannel)

    heard = b"".join(iter(pause.channel.receive, b""))

    assert heard == b"" or re.fullmatch(rb"end [0-9a-f]+ 0\n", heard)
    pause.end()
    assert pause.channel.process.returncode == 0


def test_a_pause_that_is_not_known_to_have_begun_is_a_mistake(host: FakeHost, daemon: subprocess.Popen[bytes]) -> None:
    host.noise = "exec "
    pause = host.machine().pause(UNIT)
    assert isinstance(pause.channel, LocalChannel)
    pause.channel.process.kill()
    pause.channel.process.wait()

    with pytest.raises(Mistake, match=r"stand still|lost"):
        pause.begin()
    pause.end()
    assert state(daemon) != "T"


class Unreachable:
    connects = 0

    def execute(self, command: str, *, tty: bool = False) -> LocalChannel:  # noqa: ARG002 - of a Line
        raise Mistake.at("controller-2", "no route to host")

    def dial(self, address: str, port: int) -> Wire:
        raise NotImplementedError

    def close(self) -> None: ...


def test_it_stands_still_wherever_that_can_be_had(tmp_path: Path) -> None:
    first, second, third = INVENTORY.on("controller")
    hosts = {first: FakeHost(base=tmp_path / "1"), third: FakeHost(base=tmp_path / "3")}
    machines = {host.name: Machine(name=host.name, line=there, root=str(there.root)) for host, there in hosts.items()}
    machines[second.name] = Machine(name=second.name, line=Unreachable())
    cluster = Cluster(INVENTORY, cast("Any", None), machines, cast("Any", None))
    daemons = {host: subprocess.Popen(["sleep", "60"]) for host in hosts}
    try:
        for host, there in hosts.items():
            there.program("sleep", PATIENT)
            there.unit(UNIT, MainPID=str(daemons[host].pid))

        with cluster.paused((first, second, third), UNIT) as still:
            assert still == {first, third}
            assert all(map(stands_still, daemons.values()))

        assert all(map(goes_on, daemons.values()))
    finally:
        for daemon in daemons.values():
            daemon.kill()
            daemon.wait()
