"""What a host says of itself: read by the real host.sh in each shell, from a /proc and a /sys of the test's own."""

from __future__ import annotations

import pytest

from hardway.observed import Facts
from tests.remote.fakehost import FakeHost

SHELLS = ("dash", "bash", "busybox sh")
shells = pytest.mark.parametrize("shell", SHELLS)
ROUTES = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def write(host: FakeHost, path: str, text: str) -> None:
    host.path(path).parent.mkdir(parents=True, exist_ok=True)
    host.path(path).write_text(text)


def facts(host: FakeHost, shell: str) -> Facts:
    return host.machine(shell).observe(frozenset()).facts


@shells
def test_the_mtu_is_that_of_the_interface_of_the_default_route(host: FakeHost, shell: str) -> None:
    assert facts(host, shell).mtu == 0
    near = "lo\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
    default = "ens3\t00000000\t0100F00A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    write(host, "/sys/class/net/lo/mtu", "65536\n")
    write(host, "/sys/class/net/ens3/mtu", "1450\n")
    write(host, "/proc/net/route", ROUTES + near)
    assert facts(host, shell).mtu == 0
    write(host, "/proc/net/route", ROUTES + near + default)
    assert facts(host, shell).mtu == 1450


@shells
def test_a_host_that_is_a_container_says_so(host: FakeHost, shell: str) -> None:
    assert not facts(host, shell).container
    write(host, "/run/systemd/container", "systemd-nspawn")
    assert facts(host, shell).container
