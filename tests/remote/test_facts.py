"""What a host says of itself: read by the real host.sh in each shell, from a /proc and a /sys of the test's own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import Any

import pytest

from hardway.observed import Asked, Facts, Ground, Listener, Setting
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
def test_pods_are_not_told_of_the_stub_of_systemd_resolved(host: FakeHost, shell: str) -> None:
    own, resolved = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
    assert str(facts(host, shell).resolv_conf) == own
    write(host, own, "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\n")
    assert str(facts(host, shell).resolv_conf) == own
    write(host, resolved, "nameserver 10.0.0.2\n")
    assert str(facts(host, shell).resolv_conf) == resolved
    write(host, own, "nameserver 10.0.0.3\n")
    assert str(facts(host, shell).resolv_conf) == own


@shells
def test_a_host_that_is_a_container_says_so(host: FakeHost, shell: str) -> None:
    assert not facts(host, shell).container
    write(host, "/run/systemd/container", "systemd-nspawn")
    assert facts(host, shell).container


TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENS = "   0: 00000000:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100 0 0 10 0\n"
TALKS = "   1: 0B00F00A:{port:04X} 0C00F00A:D431 01 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 20 4 30 10 -1\n"


def ground(host: FakeHost, shell: str, **asked: Any) -> Ground:
    return host.machine(shell).observe(frozenset(), ("etcd.service",), Asked(**asked)).ground


@shells
def test_what_a_host_stands_on_is_read_from_its_kernel(host: FakeHost, shell: str) -> None:
    write(host, "/proc/self/status", "Name:\tgrep\nUid:\t1000\t1000\t1000\t1000\n")
    write(host, "/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n")
    write(host, "/proc/sys/kernel/hostname", "c1\n")
    write(host, "/etc/hosts", "127.0.0.1 localhost\n127.0.1.1\tother c1 # named twice\n#10.0.0.9 api.example.com\n")
    write(host, "/etc/machine-id", "cafe\n")
    write(host, "/sys/class/dmi/id/product_uuid", "f00d-1\n")
    write(
        host,
        "/proc/swaps",
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda2                               partition\t999420\t0\t-2\n",
    )
    write(host, "/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t6\t1\nmemory\t0\t1\t0\n")
    near = "eth0\t0000F00A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    write(host, "/proc/net/route", ROUTES + "eth0\t00000000\t0100F00A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" + near)
    trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.240.0.0\n        /24 link UNICAST\n     |-- 10.240.0.11\n        /32 host LOCAL\n"
    write(host, "/proc/net/fib_trie", trie)

    found = ground(host, shell, programs=("sed",), names=("api.example.com.invalid",))

    assert (found.user, found.kernel, found.hostname, found.machine_id, found.product_uuid) == (
        1000,
        "6.1.0-18-amd64",
        "c1",
        "cafe",
        "f00d-1",
    )
    assert found.names == {"c1"}
    assert found.swap == ("/dev/sda2",)
    assert found.controllers == {"cpu"}
    assert found.networks == (IPv4Network("10.240.0.0/24"),)
    assert found.addresses == {IPv4Address("10.240.0.11")}
    write(host, "/sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n")
    assert ground(host, shell, programs=("sed",)).controllers == {"cpuset", "cpu", "memory"}


@shells
def test_a_module_is_there_if_it_is_loaded_built_in_or_can_be_loaded(host: FakeHost, shell: str) -> None:
    asked = {"modules": ("overlay", "br_netfilter", "nf_conntrack", "nf_tables", "nft_masq")}
    host.program("nft", "#!/bin/sh\nexit 1\n")
    assert ground(host, shell, **asked).modules == frozenset()
    write(host, "/proc/sys/kernel/osrelease", "6.1\n")
    write(host, "/proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n")
    write(host, "/sys/module/br_netfilter/refcnt", "0\n")
    assert ground(host, shell, **asked).modules & set(asked["modules"]) == {"overlay", "br_netfilter"}
    host.program("nft", "#!/bin/sh\n[ $1 = -c ]\n")  # in a container: what the kernel takes, it has
    assert ground(host, shell, **asked).modules & set(asked["modules"]) == {"overlay", "br_netfilter", "nf_tables", "nft_masq"}
    write(host, "/lib/modules/6.1/modules.builtin", "kernel/net/netfilter/nf_tables.ko\n")
    write(host, "/lib/modules/6.1/modules.dep", "kernel/net/netfilter/nf_conntrack.ko.xz: kernel/lib/libcrc32c.ko.xz\n")
    assert ground(host, shell, **asked).modules & set(asked["modules"]) == {"overlay", "br_netfilter", "nf_tables", "nf_conntrack"}


@shells
def test_a_setting_tells_its_value_and_whether_it_can_be_made(host: FakeHost, shell: str) -> None:
    write(host, "/proc/sys/net/ipv4/ip_forward", "0\n")
    found = ground(host, shell, settings=("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables")).settings
    assert found == {"net.ipv4.ip_forward": Setting(value="0", writable=True)}


@shells
def test_who_holds_a_port_is_told_by_program_and_unit(host: FakeHost, shell: str) -> None:
    write(host, "/proc/net/tcp", TCP + LISTENS.format(port=2379, inode=4711) + TALKS.format(port=2380, inode=4712))
    write(host, "/proc/net/tcp6", TCP + LISTENS.format(port=10250, inode=4713).replace("00000000:280A", f"{'0' * 32}:280A"))
    for process, program, group, inode in ((812, "my prog", "0::/system.slice/my.service", 4711), (900, "sh", "0::/user.slice", 4714)):
        write(host, f"/proc/{process}/comm", f"{program}\n")
        write(host, f"/proc/{process}/cgroup", f"{group}\n")
        write(host, f"/proc/{process}/fd/0", "")
        host.path(f"/proc/{process}/fd/7").symlink_to(f"socket:[{inode}]")

    found = ground(host, shell, ports=(2379, 2380, 10250)).listeners

    assert set(found) == {Listener(port=2379, process=812, program="my prog", unit="my.service"), Listener(port=10250)}
    host.unit("etcd.service")
    assert ground(host, shell, ports=(2379, 2380, 10250)).listeners == ()  # all that is ours runs: nobody asks


@shells
def test_a_path_is_there_if_it_is_a_file_or_holds_something(host: FakeHost, shell: str) -> None:
    names = ("/etc/file", "/etc/empty", "/etc/hidden", "/sys/class/net/cni0", "/etc/none")
    write(host, "/etc/file", "")
    write(host, "/etc/hidden/.keep", "")
    host.path("/etc/empty").mkdir()
    write(host, "/sys/devices/virtual/net/cni0/mtu", "1500\n")
    host.path("/sys/class/net").mkdir(parents=True)
    host.path("/sys/class/net/cni0").symlink_to(host.path("/sys/devices/virtual/net/cni0"))
    found = ground(host, shell, paths=tuple(map(PurePosixPath, names))).paths
    assert set(map(str, found)) == {"/etc/file", "/etc/hidden", "/sys/class/net/cni0"}


@pytest.mark.parametrize("name", ["a b", "a;b", "$(reboot)", "*", "-x", ""])
def test_a_name_that_could_mean_something_else_on_its_way_is_a_bug_of_ours(host: FakeHost, name: str) -> None:
    with pytest.raises(ValueError, match="not a module"):
        host.machine().observe(frozenset(), (), Asked(modules=(name,)))
