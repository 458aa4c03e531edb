"""A reset takes what is the kit's off a host and nothing else; cut short anywhere, the same again ends it."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from grp import getgrgid
from pathlib import Path, PurePosixPath

import pytest

from hardway.components import ALL
from hardway.desired import Component, Trace
from hardway.errors import Mistake
from hardway.inventory import load
from hardway.leaving import remains
from hardway.leaving.remains import Remains
from hardway.plan import Plan
from hardway.remote.protocol import Apply, Move
from tests.remote.fakehost import FakeHost, LocalChannel

ROOT = Path(__file__).parents[2]
HOST = load(ROOT / "inventory.yaml").hosts[0]
ME = f"{pwd.getpwuid(os.geteuid()).pw_name}:{getgrgid(os.getegid()).gr_name}"
UNITS = "/etc/systemd/system"
FILES = {
    f"{UNITS}/kubelet.service": "unit",
    f"{UNITS}/containerd.service": "unit",
    f"{UNITS}/etcd.service": "unit",
    "/etc/sysusers.d/etcd.conf": "u etcd",
    "/etc/etcd/pki/ca.crt": "ca",
    "/etc/kubernetes/kubelet/config.yaml": "config",
    "/etc/kubernetes/kubelet/client.pem": "key",
    "/opt/cni/bin/bridge": "program",
    "/usr/local/bin/kubelet": "program",
}
DATA = (
    "/var/lib/etcd/member",
    "/var/lib/kubelet/pods/1",
    "/var/lib/containerd/x",
    "/run/containerd/y",
    "/var/log/pods/z",
    "/var/lib/cni/n",
)
THEIRS = ("/etc/kubernetes/kubelet/conf.d/theirs.conf", "/etc/containerd/theirs.toml", "/usr/local/bin/theirs", "/var/lib/theirs/data")

# What is there is a file below programs/, named as the program is called; a call that takes something away removes it.
STAND_IN = """#!/bin/sh
at=$HARDWAY_ROOT/programs
echo "${0##*/} $*" >>"$HARDWAY_ROOT/log"
case "${0##*/} $*" in
  "nft list table "*) [ -e "$at/table $3 $4" ] ;;
  "nft delete table "*) rm "$at/table $3 $4" ;;
  "ip -4 route show proto "*) cat "$at/routes $5" 2>/dev/null ;;
  "ip -4 route flush proto "*) rm "$at/routes $5" ;;
  "ip link delete "*) rm -r "$HARDWAY_ROOT/sys/class/net/$3" ;;
  "getent passwd "*) cat "$at/user $2" 2>/dev/null ;;
  "getent group "*) [ -e "$at/group $2" ] ;;
  "userdel "*) rm "$at/user $1" ;;
  "groupdel "*) rm "$at/group $1" ;;
  "umount -l "*) exit 1 ;;
  "umount "*)
    [ ! -e "$HARDWAY_ROOT/busy" ] || exit 1
    at=$(printf %s "${2#"$HARDWAY_ROOT"}" | sed 's/ /.040/g')
    sed -i "\\\\| $at |d" "$HARDWAY_ROOT/proc/self/mountinfo" ;;
  "iptables-save -t "*) printf '%s\\n' '*nat' ':PREROUTING ACCEPT [0:0]' COMMIT ;;
  "iptables-save "*) cat "$at/iptables" 2>/dev/null ;;
  "iptables-restore "*) cat >"$at/restored"; rm "$at/iptables" ;;
  "iptables --version") echo 'iptables v1.8.9 (nf_tables)' ;;
esac
"""
NAMES = ("nft", "ip", "getent", "userdel", "groupdel", "umount", "iptables", "iptables-save", "iptables-restore", "ip6tables-save")


def bare(base: Path) -> FakeHost:
    made = FakeHost(base=base)
    for name in NAMES:
        made.program(name, STAND_IN)
    for path in ("/programs", "/proc/self", "/sys/fs/cgroup", "/sys/class/net", "/run/netns", "/etc/systemd/system", "/etc/sysusers.d"):
        made.path(path).mkdir(parents=True)
    made.path("/proc/self/mountinfo").touch()
    return made


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return bare(tmp_path)


@pytest.fixture
def used(pushed: FakeHost, tmp_path: Path) -> FakeHost:
    """One that carries all of it, and things of its owner's between."""
    return FakeHost.copied(tmp_path, pushed)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    """The one that the others are copies of."""
    host = bare(tmp_path_factory.mktemp("pushed"))
    for path in DATA:
        host.path(path).mkdir(parents=True)
        (host.path(path) / "data").write_text("data")
    host.path("/etc/kubernetes/kubelet/conf.d").mkdir(parents=True)
    push(host, FILES)
    host.path("/run/hardway").mkdir(parents=True, exist_ok=True)
    host.path("/run/netns/cni-1").touch()
    for interface in ("veth1", "veth2", "eth0", "cni0"):
        host.path(f"/sys/class/net/{interface}").mkdir()
    for port in ("veth1", "veth2"):
        host.path("/sys/class/net/cni0/brif").mkdir(exist_ok=True)
        (host.path("/sys/class/net/cni0/brif") / port).touch()
    for name, text in {"user etcd": "etcd:x:999:999:etcd.service:/:/bin/false\n", "group etcd": "", "table ip cni_hostport": ""}.items():
        (host.path("/programs") / name).write_text(text)
    return host


def push(host: FakeHost, files: dict[str, str]) -> None:
    moves, contents = [], []
    for path, text in files.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        moves.append(Move(path=PurePosixPath(path), owner=ME, mode=0o644, before=None, after=digest))
        contents.append(text.encode())
    host.machine().apply(Apply(moves=tuple(moves), contents=tuple(contents)))


def found(host: FakeHost, shell: str = "dash") -> Remains:
    return remains.parse(host.machine(shell).run(shell, *remains.look()[1:]))


def planned(host: FakeHost) -> Plan:
    return remains.plan(HOST, found(host))


def reset(host: FakeHost, shell: str = "dash", upto: int | None = None) -> tuple[str, ...]:
    words = remains.take(planned(host).changes[:upto])
    return remains.left(host.machine(shell).run(shell, *words[1:]))


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def there(host: FakeHost, *, but: tuple[str, ...] = ("programs/", "sys/", "proc/", "log")) -> list[str]:
    paths = (str(path.relative_to(host.root)) for path in sorted(host.root.rglob("*")) if not path.is_dir())
    return [path for path in paths if not path.startswith(but)]


def test_a_host_that_never_saw_a_push_has_nothing_of_ours(host: FakeHost) -> None:
    host.path("/var/lib/etcd/member").mkdir(parents=True)  # somebody else's

    assert planned(host).changes == ()


@pytest.mark.parametrize("shell", ["dash", pytest.param("bash", marks=pytest.mark.full)])
def test_nothing_of_ours_is_left_and_all_that_is_not_ours_stays(used: FakeHost, shell: str) -> None:
    for path in THEIRS:
        used.path(path).parent.mkdir(parents=True, exist_ok=True)
        used.path(path).write_text("theirs")

    assert reset(used, shell) == ()

    assert there(used) == sorted(path[1:] for path in THEIRS)
    assert not [
        path for path in ("/etc/etcd", "/opt/cni", "/var/lib/kubelet", "/run/hardway", "/run/containerd") if used.path(path).exists()
    ]
    assert [path for path in ("/etc/systemd/system", "/usr/local/bin", "/opt") if not used.path(path).exists()] == []
    assert listed(used.path("/sys/class/net")) == ["eth0"]
    assert listed(used.path("/programs")) == []
    assert planned(used).changes == ()


def test_what_it_will_do_is_named_before(used: FakeHost) -> None:
    before = there(used)
    shown = [f"{change.component} {change.action} {change.what}" for change in planned(used).changes]

    assert there(used) == before
    assert shown[:3] == [f"{name} stop {name}.service" for name in ("kubelet", "containerd", "etcd")]
    assert {"kubelet remove directory /var/lib/kubelet", "etcd remove user etcd", "containerd remove interface cni0"} < set(shown)
    assert "kubelet delete /usr/local/bin/kubelet" in shown
    assert shown[-2:] == ["hardway remove directory /run/hardway", "hardway remove directory /var/lib/hardway"]


def test_units_stop_before_what_they_have_made_goes(used: FakeHost) -> None:
    reset(used)

    log = used.log()
    assert log.index("stop kubelet.service") < log.index("stop containerd.service") < log.index("ip link delete cni0")
    assert log.index("disable etcd.service") < log.index("userdel etcd")
    assert "daemon-reload" in log


@pytest.mark.parametrize("upto", [7, 20])
def test_cut_short_anywhere_the_same_again_ends_it(used: FakeHost, upto: int) -> None:
    memory, kept = used.path("/var/lib/hardway"), used.base / "memory"
    shutil.copytree(memory, kept)
    reset(used, upto=upto)
    shutil.copytree(kept, memory, dirs_exist_ok=True)  # goes last, so that a host that lost its power still has it

    assert reset(used) == ()
    assert there(used) == []


def test_a_connection_that_is_lost_does_not_stop_what_has_begun(used: FakeHost) -> None:
    """As sshd does it: all that the session has started is hung up, and nobody reads what it says."""
    channels = []
    execute = FakeHost.execute

    class Lost(FakeHost):
        def execute(self, command: str, *, tty: bool = False) -> LocalChannel:
            channels.append(execute(self, command, tty=tty))
            return channels[-1]

    words = remains.take(planned(used).changes)
    slow = 'echo "$*" >>"$HARDWAY_ROOT/log"; while [ ! -e "$HARDWAY_ROOT/programs/go-on" ]; do sleep 0.02; done'
    lost = Lost(base=used.base)
    lost.program("systemctl", f'#!/bin/sh\n[ "$1" = stop ] || exit 0\n{slow}\n')

    def ask() -> None:
        with suppress(Mistake):
            lost.machine().run("dash", *words[1:])

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: "stop kubelet.service" in used.log())
    os.killpg(channels[0].process.pid, signal.SIGHUP)
    used.path("/programs/go-on").touch()
    thread.join()

    until(lambda: not used.path("/var/lib/hardway").exists())
    assert there(used) == []


def until(ask: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if ask():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come about within a minute")


def test_a_daemon_that_is_not_ours_keeps_its_data(host: FakeHost) -> None:
    host.path("/var/lib/etcd/member").mkdir(parents=True)
    push(host, {f"{UNITS}/kubelet.service": "unit"})

    assert "directory /var/lib/etcd" not in [change.what for change in planned(host).changes]
    reset(host)

    assert host.path("/var/lib/etcd/member").exists()


def test_a_user_whom_somebody_else_made_stays(used: FakeHost) -> None:
    (used.path("/programs") / "user etcd").write_text("etcd:x:999:999:the owner's:/:/bin/sh\n")

    reset(used)

    assert "userdel etcd" not in used.log()


def test_nothing_is_removed_through_a_mount(used: FakeHost) -> None:
    volume = used.path("/var/lib/kubelet/pods/1/volume")
    volume.mkdir()
    (volume / "precious").write_text("data")
    used.path("/proc/self/mountinfo").write_text(
        "1 0 8:1 / / rw - ext4 x rw\n2 1 8:2 / /var/lib/kubelet/pods/1/volume rw - ext4 y rw\n"
        "3 2 8:3 / /var/lib/kubelet/pods/1/a\\040b rw - z z rw\n"
    )
    used.path("/busy").touch()

    left = reset(used)

    assert (volume / "precious").exists()
    assert [line for line in left if line.startswith("directory /var/lib/kubelet: /var/lib/kubelet/pods/1/volume")]
    assert used.path("/var/lib/hardway/managed").exists()  # it is still known what is ours

    used.path("/busy").unlink()
    assert reset(used) == ()
    calls = [line for line in used.log() if line.startswith("umount -- ")]
    assert f"umount -- {volume}" in calls
    assert f"umount -- {used.path('/var/lib/kubelet/pods/1')}/a b" in calls


def test_a_place_that_somebody_has_made_for_data_stays_empty(used: FakeHost) -> None:
    disk = used.path("/disk")
    used.path("/var/lib/kubelet").rename(disk)
    used.path("/var/lib/kubelet").symlink_to(disk)
    used.path("/proc/self/mountinfo").write_text("1 0 8:1 / / rw - ext4 x rw\n2 1 8:2 / /var/lib/containerd rw - ext4 y rw\n")

    assert reset(used) == ()

    assert (listed(disk), listed(used.path("/var/lib/containerd"))) == ([], [])
    assert used.path("/var/lib/kubelet").is_symlink()
    assert planned(used).changes == ()


@contextmanager
def alive() -> Iterator[tuple[subprocess.Popen[bytes], list[Path]]]:
    """A process, and the directories that show it; they go when it ends."""
    process, shown = subprocess.Popen(["sleep", "600"]), list[Path]()

    def watch() -> None:
        process.wait()
        for path in shown:
            shutil.rmtree(path)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield process, shown
    finally:
        process.kill()
        thread.join()


def test_what_outlives_a_unit_is_killed_and_nothing_else(used: FakeHost) -> None:
    group = used.path("/sys/fs/cgroup/memory/kubepods/burstable")
    group.mkdir(parents=True)
    with alive() as (container, its), alive() as (shim, shims), alive() as (other, _):
        (group / "cgroup.procs").write_text(f"0\n{container.pid}\n")  # 0 is somebody whom this namespace does not see
        its.append(group)
        programs = {shim: "/usr/local/bin/containerd-shim-runc-v2 (deleted)", other: "/usr/bin/containerd-shim-runc-v2"}
        for process, program in programs.items():
            used.path(f"/proc/{process.pid}").mkdir()
            used.path(f"/proc/{process.pid}/exe").symlink_to(program)
        shims.append(used.path(f"/proc/{shim.pid}"))

        assert reset(used) == ()

        assert (container.wait(), shim.wait(), other.poll()) == (-9, -9, None)
    assert listed(used.path("/sys/fs/cgroup/memory")) == []


def test_of_iptables_only_the_chains_that_are_ours_go(used: FakeHost) -> None:
    used.path("/programs/iptables").write_text(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK - [0:0]\n:THEIRS - [0:0]\n"
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES\n-A PREROUTING -j THEIRS\n'
        "-A KUBE-SERVICES -j KUBE-MARK\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n"
    )
    (used.path("/programs") / "table ip nat").touch()
    (used.path("/programs") / "table ip filter").touch()

    assert reset(used) == ()

    assert used.path("/programs/restored").read_text() == (
        "*nat\n-F KUBE-SERVICES\n-F KUBE-MARK\n"
        '-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES\n'
        "-X KUBE-SERVICES\n-X KUBE-MARK\nCOMMIT\n*filter\nCOMMIT\n"
    )
    assert not (used.path("/programs") / "table ip nat").exists()  # empty, and made for these chains
    assert (used.path("/programs") / "table ip filter").exists()


def test_what_a_push_that_died_has_begun_goes_too(used: FakeHost) -> None:
    txn = used.path("/var/lib/hardway/txn")
    txn.mkdir()
    (txn / "moves").write_text(f"644\t{ME}\t-\tabc\t/etc/kubernetes/kubelet/new\n-\t-\tdef\t-\t/etc/theirs\n")
    used.path("/etc/kubernetes/kubelet/.new.hardway").write_text("staged")
    used.path("/etc/theirs").write_text("theirs")

    assert PurePosixPath("/etc/kubernetes/kubelet/new") not in found(used).files
    (txn / "commit").touch()
    assert PurePosixPath("/etc/kubernetes/kubelet/new") in found(used).gone  # not yet there
    used.path("/etc/kubernetes/kubelet/new").write_text("moved already")
    assert PurePosixPath("/etc/kubernetes/kubelet/new") in found(used).files

    assert reset(used) == ()
    assert there(used) == ["etc/theirs"]


def test_of_a_reset_that_was_cut_short_only_the_rest_is_shown(used: FakeHost) -> None:
    used.path(f"{UNITS}/kubelet.service").unlink()

    shown = [change.what for change in planned(used).changes]
    assert "kubelet.service" not in shown
    assert f"{UNITS}/kubelet.service" not in shown
    assert "directory /var/lib/kubelet" in shown  # it is still known whose that is


def test_a_unit_that_does_not_stop_is_told(used: FakeHost) -> None:
    used.program("systemctl", '#!/bin/sh\n[ "$1" != is-active ] || echo active\n')

    assert "unit kubelet.service: it still runs" in reset(used)
    assert used.path("/var/lib/hardway/managed").exists()


@pytest.mark.parametrize("component", ALL, ids=lambda component: component.name)
def test_every_directory_that_a_unit_makes_is_declared_by_its_component(component: Component) -> None:
    unit = ROOT / "units" / component.unit
    text = unit.read_text() if unit.exists() else ""
    made = {"State": "/var/lib", "Cache": "/var/cache", "Logs": "/var/log"}  # a RuntimeDirectory goes when its unit stops
    found = re.findall(r"^(\w+)Directory=(\S+)$", text, re.MULTILINE)
    wanted = {Trace("directory", f"{made[kind]}/{name}") for kind, name in found if kind in made}

    assert wanted <= set(component.leaves)
