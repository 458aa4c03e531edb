"""What is secret shows nowhere: not in arguments, environments, words, plans or files that others can read, also after a crash."""

from __future__ import annotations

import re
import shutil
import tarfile
import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Self

import pytest

from hardway.errors import Mistake
from hardway.plan import document
from hardway.remote import protocol
from hardway.remote.protocol import Apply
from tests.faults.fleet import CONFIG, HOSTS, LEAF, OLD, Fleet
from tests.remote.fakehost import FakeHost
from tests.remote.test_crash import COMMANDS
from tests.remote.test_machine import A, put

pytestmark = pytest.mark.lab
CANARY = "canary-4f1c9d"
SECRET = {CONFIG: b"open\n", LEAF: f"{CANARY}\n".encode()}


class Watch:
    """Reads the arguments and environments of every process on this machine, which is operator and host, again and again."""

    def __enter__(self) -> Self:
        self.seen: set[bytes] = set()
        self.rounds = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            for process in Path("/proc").iterdir():
                for name in ("cmdline", "environ") if process.name.isdigit() else ():
                    with suppress(OSError):  # over meanwhile
                        self.seen.add((process / name).read_bytes())
            self.rounds += 1


def hooked(host: FakeHost) -> Path:
    """Every program that the host runs writes down with what it was started; sampling alone would miss most of them."""
    log = host.base / "started"
    for name in COMMANDS.split():
        own = host.base / "bin" / name
        real = shutil.which(name)
        if own.exists():
            real = str(own.rename(own.with_name(f"{name}.own")))
        host.program(name, f'#!/bin/sh\n{{ echo {name} "$@"; {shutil.which("env")}; }} >>{log}\nexec {real} "$@"\n')
    return log


def open_to_others(top: Path, text: bytes) -> list[str]:
    """Files with this text that somebody else could read, by their own modes or by those of all that is above them."""
    found = []
    for path in top.rglob("*"):
        if path.is_file() and text in path.read_bytes():
            above = [at for at in path.parents if at == top or top in at.parents]
            if path.stat().st_mode & 0o044 and all(at.stat().st_mode & 0o011 for at in above):
                found.append(str(path))
    return found


def test_a_push_shows_no_secret_to_anybody(fleet: Fleet) -> None:
    logs = [hooked(host) for host in fleet.hosts.values()]
    with Watch() as watch:
        plans = fleet.survey(SECRET)
        fleet.push(SECRET)
    assert watch.rounds
    assert all(log.stat().st_size > 10_000 for log in logs)  # the hooks are seen to work
    assert all(b"sha256sum" in log.read_bytes() for log in logs)
    said = [*watch.seen, *(log.read_bytes() for log in logs), repr(plans).encode(), str(document(plans.plans, ())).encode()]
    said += [line.encode() for line in fleet.told]
    assert not any(CANARY.encode() in one for one in said)
    for host in HOSTS:
        assert fleet.carried(host)[LEAF] == SECRET[LEAF]
        assert open_to_others(fleet.hosts[host.name].root, CANARY.encode()) == []


def test_the_watch_sees_what_is_shown(fleet: Fleet) -> None:
    """Else the test above proves nothing."""
    host = fleet.hosts[HOSTS[0].name]
    log = hooked(host)
    with Watch() as watch:
        fleet.machine(HOSTS[0]).run("sed", "--version", CANARY)
        while not any(CANARY.encode() in one for one in watch.seen):
            fleet.machine(HOSTS[0]).run("sh", "-c", f"read x </dev/null; : {CANARY}; cat /proc/self/status")
    assert CANARY.encode() in log.read_bytes()
    shown = host.path("/etc/shown")
    shown.write_text(CANARY)
    shown.chmod(0o644)
    assert open_to_others(host.root, CANARY.encode()) == [str(shown)]


@pytest.mark.parametrize("point", range(1, 60, 9))
def test_a_crash_leaves_no_secret_that_others_can_read(fleet: Fleet, point: int) -> None:
    host = fleet.hosts[HOSTS[0].name]
    count = host.base / "count"
    count.write_text("")
    for name in COMMANDS.split():
        own = host.base / "bin" / name
        real = str(own.rename(own.with_name(f"{name}.own"))) if own.exists() else shutil.which(name)
        kill = f'[ "$({shutil.which("stat")} -c %s {count})" -lt {point} ] || kill -9 "-$GROUP"'
        host.program(name, f'#!/bin/sh\nprintf . >>{count}; {kill}\nexec {real} "$@"\n')
    host.noise = "GROUP=$$; export GROUP; "
    change = Apply(moves=put(LEAF, SECRET[LEAF], before=OLD[LEAF], mode=0o600).moves, contents=(SECRET[LEAF],))
    with suppress(Mistake):
        fleet.machine(HOSTS[0]).apply(change)
    assert open_to_others(host.root, CANARY.encode()) == []


def test_an_error_holds_no_secret(fleet: Fleet) -> None:
    host = fleet.hosts[HOSTS[0].name]
    host.program("cp", '#!/bin/sh\necho "cp: $(cat "$2")" >&2\nexit 1\n')
    said = fleet.refused(SECRET)
    assert "cannot write" in said or "no space" in said
    assert CANARY not in said


def test_nothing_that_an_archive_names_leaves_its_directory(tmp_path: Path) -> None:
    host = FakeHost(base=tmp_path)
    sent = protocol.apply(put(A, b"x"))
    with tarfile.open(fileobj=BytesIO(sent.partition(b"\n")[2])) as archive:
        names = archive.getnames()
    contents = [name for name in names if re.fullmatch("new/[0-9a-f]{64}", name)]
    assert contents
    assert set(names) - set(contents) <= {"host.sh", "owed", "actions", "moves"}  # nothing by a name that somebody has written
    for name in ("../../../../etc/evil", f"{host.root}/etc/evil", "new/../../../../../etc/evil"):
        out = BytesIO()
        with tarfile.open(fileobj=out, mode="w") as hostile:
            member = tarfile.TarInfo(name)
            member.size = 4
            hostile.addfile(member, BytesIO(b"evil"))
        machine = host.machine()
        with pytest.raises(Mistake):
            machine._ask([b"apply %d\n" % len(out.getvalue()) + out.getvalue()])[1].checked("c1")
        assert not [path for path in host.root.rglob("*") if path.name == "evil"]
        assert not Path("/etc/evil").exists()
