"""What is stopped on a host is started again; what somebody else has stopped is not."""

from __future__ import annotations

import os
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.smoke.outage import Outage

HOST = Host(name="controller-1", address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"}))
UNITS = ("etcd.service", "kube-apiserver.service")


class FakeHost:
    """Runs commands here, with a systemd that only writes down what it is asked."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self.down = directory / "down"  # a unit that does not run
        for program, answer in (
            ("systemctl", f'[ "$1" != is-active ] || [ "$3" != "$(cat {self.down} 2>/dev/null)" ]'),
            ("systemd-run", ":"),
        ):
            path = directory / program
            path.write_text(f'#!/bin/sh\n[ "$1" = is-active ] || echo "{program} $*" >>{self.log}\n{answer}\n')
            path.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}

    def run(self, host: Host, *argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self.environment)
        if done.returncode:
            raise Mistake.at(host.name, done.stderr)
        return done.stdout

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def test_units_are_killed_only_once_it_is_sure_that_the_host_starts_them_by_itself(host: FakeHost) -> None:
    outage = Outage(host=HOST, units=UNITS, killed=True, timer="back")

    outage.begin(host.run)

    assert host.asked == [
        "systemd-run --quiet --unit=back --on-active=900 systemctl start --no-block etcd.service kube-apiserver.service",
        "systemctl kill --signal=KILL etcd.service kube-apiserver.service",
        "systemctl stop etcd.service kube-apiserver.service",
    ]


def test_what_is_only_stopped_is_not_killed(host: FakeHost) -> None:
    Outage(host=HOST, units=UNITS, timer="back").begin(host.run)

    assert not any("kill" in line for line in host.asked)


def test_units_are_started_and_the_host_need_not_do_it(host: FakeHost) -> None:
    Outage(host=HOST, units=UNITS, timer="back").end(host.run)

    assert host.asked == ["systemctl start etcd.service kube-apiserver.service", "systemctl stop back.timer"]


def test_what_does_not_run_is_left_alone(host: FakeHost) -> None:
    host.down.write_text(UNITS[1])

    with pytest.raises(Mistake, match=r"kube-apiserver\.service does not run"):
        Outage(host=HOST, units=UNITS).check(host.run)

    assert host.asked == []
