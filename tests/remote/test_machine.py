"""A Machine against the real host.sh, in the shells that hosts have."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from grp import getgrgid
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardway.desired import Blob
from hardway.errors import Mistake
from hardway.observed import Asked, OnDisk
from hardway.remote import protocol
from hardway.remote.protocol import SCRIPT, Action, Apply, Move, Removal
from tests.remote.fakehost import FakeHost, LocalChannel

SHELLS = ("dash", "bash", "busybox sh")
DASH_AND_IN_FULL_THE_OTHERS = ("dash", *(pytest.param(shell, marks=pytest.mark.full) for shell in SHELLS[1:]))
ME = f"{pwd.getpwuid(os.geteuid()).pw_name}:{getgrgid(os.getegid()).gr_name}"
A, B, C = PurePosixPath("/etc/x/a"), PurePosixPath("/etc/x/b"), PurePosixPath("/usr/local/bin/c")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def move(path: PurePosixPath, data: bytes, before: bytes | None = None, mode: int = 0o644, owner: str = ME) -> Move:
    return Move(path=path, owner=owner, mode=mode, before=None if before is None else sha(before), after=sha(data))


def put(path: PurePosixPath, data: bytes, before: bytes | None = None, mode: int = 0o644) -> Apply:
    return Apply(moves=(move(path, data, before, mode),), contents=(data,))


def blob(path: Path, data: bytes) -> Blob:
    path.write_bytes(data)
    return Blob(sha256=sha(data), size=len(data), local=path)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_was_applied_is_observed(host: FakeHost, tmp_path: Path, shell: str) -> None:
    machine = host.machine(shell)
    binary = os.urandom(200_000)
    host.path("/etc/old").write_text("old")
    machine.store([blob(tmp_path / "binary", binary)])
    change = Apply(
        moves=(move(A, b"text\n"), move(B, b"", mode=0o640), move(C, binary, mode=0o755)),
        removals=(Removal(path=PurePosixPath("/etc/old"), before=sha(b"old")),),
        owed=frozenset({"etcd.service"}),
        actions=(Action(verb="restart", unit="etcd.service"),),
        contents=(b"text\n", b""),
    )
    machine.apply(change)
    host.unit("etcd.service")
    seen = machine.observe(
        frozenset({A, B, C, PurePosixPath("/etc/old")}), ("etcd.service", "none.service"), Asked(programs=("sed", "no-such-program"))
    )
    assert seen.files == {
        A: OnDisk(sha256=sha(b"text\n"), mode=0o644, owner=ME),
        B: OnDisk(sha256=sha(b""), mode=0o640, owner=ME),
        C: OnDisk(sha256=sha(binary), mode=0o755, owner=ME),
    }
    assert seen.managed == {A, B, C}
    assert seen.stored == {sha(binary)}
    assert seen.owed == {"etcd.service"}
    assert not seen.died
    assert set(seen.units) == {"etcd.service"}
    assert (seen.units["etcd.service"].active, seen.units["etcd.service"].enabled, seen.units["etcd.service"].restarts) == (
        "active",
        True,
        2,
    )
    assert seen.facts.programs == {"sed"}
    assert seen.facts.systemd == 252
    assert seen.facts.disk_free > 0
    assert host.path(C).read_bytes() == binary
    assert host.log() == ["restart etcd.service"]
    assert not host.leftovers()
    machine.settle(["etcd.service"])
    assert machine.observe(frozenset()).owed == frozenset()
    assert machine.execs == 5


@pytest.mark.parametrize("shell", DASH_AND_IN_FULL_THE_OTHERS)
def test_observing_changes_nothing(host: FakeHost, shell: str) -> None:
    machine = host.machine(shell)
    machine.apply(put(A, b"one"))
    host.environment["TMPDIR"] = str(host.path("/"))
    before = host.tree()
    machine.observe(frozenset({A, B}), ("etcd.service",))
    assert host.tree() == before


paths = st.sampled_from([PurePosixPath(p) for p in ("/etc/a", "/etc/b/c", "/etc/b/d e", "/etc/b/ü|&'\"$x", "/opt/deep/er/f")])
trees = st.dictionaries(paths, st.tuples(st.binary(max_size=40), st.sampled_from([0o600, 0o640, 0o644, 0o755])))


def change_to(
    wanted: Mapping[PurePosixPath, tuple[bytes, int]], files: Mapping[PurePosixPath, OnDisk], managed: frozenset[PurePosixPath]
) -> Apply:
    """What a plan makes of the difference."""
    moves = tuple(
        Move(path=path, owner=ME, mode=mode, before=files[path].sha256 if path in files else None, after=sha(data))
        for path, (data, mode) in wanted.items()
        if path not in managed or files.get(path) != OnDisk(sha256=sha(data), mode=mode, owner=ME)
    )
    gone = tuple(Removal(path=path, before=files[path].sha256) for path in managed if path in files and path not in wanted)
    return Apply(moves=moves, removals=gone, contents=tuple(data for data, _ in wanted.values()))


@settings(max_examples=4, deadline=None)
@given(first=trees, edits=trees, second=trees)
def test_after_an_apply_the_host_is_as_asked_whatever_it_was(
    first: dict[PurePosixPath, tuple[bytes, int]],
    edits: dict[PurePosixPath, tuple[bytes, int]],
    second: dict[PurePosixPath, tuple[bytes, int]],
) -> None:
    with TemporaryDirectory() as base:
        host = FakeHost(base=Path(base))
        machine = host.machine()
        asked = frozenset({*first, *edits, *second})
        for wanted in (first, second):
            seen = machine.observe(asked)
            machine.apply(change_to(wanted, seen.files, seen.managed))
            seen = machine.observe(asked)
            ours = {path: disk for path, disk in seen.files.items() if path in seen.managed}
            assert ours == {path: OnDisk(sha256=sha(data), mode=mode, owner=ME) for path, (data, mode) in wanted.items()}
            assert change_to(wanted, seen.files, seen.managed) == Apply(contents=tuple(data for data, _ in wanted.values()))
            assert not host.leftovers()
            for path, (data, mode) in edits.items():  # somebody else was here
                host.path(path).parent.mkdir(parents=True, exist_ok=True)
                host.path(path).write_bytes(data)
                host.path(path).chmod(mode)


def test_a_remembered_file_is_not_hashed_again_unless_it_changed(host: FakeHost) -> None:
    machine = host.machine()
    machine.apply(put(A, b"one"))
    host.program(
        "sha256sum", f'#!/bin/sh\nfor file; do echo "hashed $file" >>"$HARDWAY_ROOT/log"; done\nexec {shutil.which("sha256sum")} "$@"\n'
    )
    host.program("date", "#!/bin/sh\necho 99999999999.5\n")  # so that nothing was changed just now
    assert machine.observe(frozenset({A})).files[A].sha256 == sha(b"one")
    assert host.log() == []
    assert machine.observe(frozenset({A}), verify=True).files[A].sha256 == sha(b"one")
    assert f"hashed {host.path(A)}" in host.log()
    host.path(A).write_bytes(b"two")
    assert machine.observe(frozenset({A})).files[A].sha256 == sha(b"two")


def test_what_changed_just_now_is_hashed_again(host: FakeHost) -> None:
    machine = host.machine()
    machine.apply(put(A, b"one"))
    # As if the clock had not moved on since the file was remembered: same stat, other content.
    managed = host.path("/var/lib/hardway/managed")
    managed.write_text(managed.read_text().replace(sha(b"one"), sha(b"another")))
    assert machine.observe(frozenset({A})).files[A].sha256 == sha(b"one")


def test_a_file_that_changed_since_the_plan_stops_the_change(host: FakeHost) -> None:
    machine = host.machine()
    host.path("/etc/x").mkdir()
    host.path(A).write_bytes(b"by hand")
    change = Apply(moves=(move(B, b"new b"), move(A, b"new a", b"as planned")), contents=(b"new a", b"new b"))
    with pytest.raises(Mistake, match=r"^c1: /etc/x/a changed since the plan; run ./inv push again$"):
        machine.apply(change)
    assert host.path(A).read_bytes() == b"by hand"
    assert not host.path(B).exists()
    assert not host.leftovers()
    with pytest.raises(Mistake, match="/etc/x/a changed since the plan"):
        machine.apply(Apply(removals=(Removal(path=A, before=sha(b"as planned")),)))
    host.path(B).mkdir()
    with pytest.raises(Mistake, match="/etc/x/b is in the way: no regular file"):
        machine.apply(put(B, b"new b"))


def test_an_owner_that_does_not_exist_changes_nothing(host: FakeHost) -> None:
    with pytest.raises(Mistake, match="cannot give /etc/x/b to no-such-user:root"):
        host.machine().apply(Apply(moves=(move(A, b"a"), move(B, b"b", owner="no-such-user:root")), contents=(b"a", b"b")))
    assert not host.path(A).exists()
    assert not host.leftovers()
    assert not host.machine().observe(frozenset()).died


def test_users_are_made_before_files_are_given_to_them(host: FakeHost) -> None:
    host.program("chown", '#!/bin/sh\n[ -e "$HARDWAY_ROOT/log" ] || exit 1\n')
    users = PurePosixPath("/etc/sysusers.d/hardway.conf")
    host.machine().apply(Apply(moves=(move(A, b"a"), move(users, b"u etcd -")), contents=(b"a", b"u etcd -")))
    assert host.log() == ["sysusers u etcd -"]
    assert host.path(users).read_bytes() == b"u etcd -"


def test_a_unit_file_reloads_systemd_before_the_actions_and_stops_come_first(host: FakeHost) -> None:
    actions = tuple(
        Action(verb=verb, unit=f"{verb}.service")
        for verb in ("enable", "stop", "restart", "start", "restart-no-block", "reload", "disable")
    )
    host.machine().apply(
        Apply(
            moves=(move(PurePosixPath("/etc/systemd/system/etcd.service.d/lab.conf"), b"[Unit]"),), contents=(b"[Unit]",), actions=actions
        )
    )
    assert host.log() == [
        "stop stop.service",
        "disable disable.service",
        "daemon-reload",
        "enable enable.service",
        "restart restart.service",
        "start start.service",
        "restart --no-block restart-no-block.service",
        "reload reload.service",
    ]


def test_directories_are_open_and_files_have_their_modes_whatever_the_umask(host: FakeHost) -> None:
    host.machine().apply(put(PurePosixPath("/opt/deep/er/f"), b"x", mode=0o640))
    assert host.path("/opt/deep").stat().st_mode & 0o7777 == 0o755
    assert host.path("/opt/deep/er/f").stat().st_mode & 0o7777 == 0o640
    assert host.path("/var/lib/hardway").stat().st_mode & 0o7777 == 0o700


def test_a_unit_that_does_not_start_is_named_with_its_last_words_and_stays_owed(host: FakeHost) -> None:
    machine = host.machine()
    host.breaks("etcd.service")
    change = Apply(
        moves=(move(A, b"a"),),
        contents=(b"a",),
        owed=frozenset({"etcd.service", "other.service"}),
        actions=(Action(verb="start", unit="etcd.service"), Action(verb="restart", unit="other.service")),
    )
    with pytest.raises(Mistake) as caught:
        machine.apply(change)
    assert [str(finding) for finding in caught.value.findings] == [
        "c1: etcd.service: start failed: Job for etcd.service failed.",
        "c1: etcd.service: | listen tcp :2379: bind: address already in use",
        "c1: etcd.service: | giving up",
    ]
    seen = machine.observe(frozenset({A}))
    assert seen.owed == {"etcd.service", "other.service"}
    assert not seen.died
    assert seen.files[A].sha256 == sha(b"a")
    assert host.log() == ["start etcd.service"]


@pytest.mark.parametrize("shell", SHELLS)
def test_noise_before_us_is_dropped(host: FakeHost, shell: str) -> None:
    host.noise = "echo 'Welcome to c1!'; printf 'ready \\nend 0\\nfail\\tx\\nno newline'; seq 100000; "
    machine = host.machine(shell)
    machine.apply(put(A, b"a"))
    assert machine.observe(frozenset({A})).files[A].sha256 == sha(b"a")
    assert machine.run("echo", "a b", "$x", "'") == "a b $x '\n"


def test_a_shell_that_does_not_come_is_a_mistake(host: FakeHost) -> None:
    host.noise = "echo 'This account is currently not available.' >&2; exit 1; "
    with pytest.raises(Mistake, match=r"^c1: no shell for us: This account is currently not available\.$"):
        host.machine().observe(frozenset())


@pytest.mark.parametrize("shell", DASH_AND_IN_FULL_THE_OTHERS)
def test_a_request_that_is_cut_short_changes_nothing(host: FakeHost, shell: str) -> None:
    machine = host.machine(shell)
    data = os.urandom(5000)
    change = Apply(moves=(move(A, data), move(B, b"b")), contents=(data, b"b"), owed=frozenset({"etcd.service"}))
    for cut in (0, 700, 1000, 3000, 5600, 6700, 7500, 9000):  # within the tar, at its seams and in its padding
        host.cut = len(SCRIPT) + cut + 1
        with pytest.raises(Mistake):
            machine.apply(change)
        assert not host.path(A).exists()
        assert not host.leftovers()
    host.cut = None
    machine.apply(change)
    assert host.path(A).read_bytes() == data


def test_a_damaged_request_changes_nothing(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = protocol.apply
    monkeypatch.setattr(protocol, "apply", lambda change: whole(change).replace(b"good", b"evil"))
    with pytest.raises(Mistake, match="damaged on the way"):
        host.machine().apply(put(A, b"good"))
    assert not host.path(A).exists()


@pytest.mark.parametrize("shell", DASH_AND_IN_FULL_THE_OTHERS)
def test_binaries_that_are_damaged_or_cut_are_not_stored(host: FakeHost, tmp_path: Path, shell: str) -> None:
    machine = host.machine(shell)
    data = os.urandom(300_000)
    good, bad = blob(tmp_path / "good", data), Blob(sha256=sha(b"else"), size=len(data), local=tmp_path / "good")
    heard: list[int] = []
    with pytest.raises(Mistake, match="a binary was cut short or damaged on the way"):
        machine.store([good, bad, good], heard.append)
    assert machine.observe(frozenset()).stored == {sha(data)}
    assert sum(heard) >= len(data)
    host.wipe()
    host.cut = len(SCRIPT) + 100_000
    with pytest.raises(Mistake, match="a binary was cut short or damaged on the way"):
        machine.store([good])
    host.cut = None
    assert machine.observe(frozenset()).stored == frozenset()
    assert not host.leftovers()


def test_a_binary_that_is_gone_from_the_cache_is_a_mistake(host: FakeHost, tmp_path: Path) -> None:
    gone = replace(blob(tmp_path / "b", b"binary"), local=tmp_path / "gone")
    with pytest.raises(Mistake, match=r"gone: No such file or directory; run \./inv binaries$"):
        host.machine().store([blob(tmp_path / "a", b"a"), gone])
    assert not host.leftovers()


def test_a_full_disk_leaves_nothing(host: FakeHost, tmp_path: Path) -> None:
    host.program("tee", f"#!/bin/sh\nexec {shutil.which('tee')} -- /dev/full\n")
    with pytest.raises(Mistake, match="no space for a binary of 1000 bytes"):
        host.machine().store([blob(tmp_path / "b", bytes(1000))])
    assert not host.leftovers()
    host.program("cp", '#!/bin/sh\n: >"$3"; exit 1\n')
    with pytest.raises(Mistake, match="cannot write /etc/x/a"):
        host.machine().apply(put(A, b"a"))
    assert not host.leftovers()


def test_a_file_that_cannot_be_written_whole_is_not_stored(host: FakeHost, tmp_path: Path) -> None:
    host.noise = "ulimit -f 8; trap '' XFSZ; "  # no file above 4 KiB
    machine = host.machine()
    with pytest.raises(Mistake, match="no space for a binary of 10000 bytes"):
        machine.store([blob(tmp_path / "b", bytes(10_000))])
    with pytest.raises(Mistake, match="there is no space in"):
        machine.apply(put(A, bytes(10_000)))
    assert not host.leftovers()
    assert machine.observe(frozenset()).stored == frozenset()


@pytest.mark.parametrize("shell", DASH_AND_IN_FULL_THE_OTHERS)
def test_a_connection_that_is_lost_after_the_commit_stops_nothing(host: FakeHost, shell: str) -> None:
    host.noise = "exec "  # else the shell in between is what dies
    gate = host.path("/gate")
    os.mkfifo(gate)
    host.program("systemctl", '#!/bin/sh\n[ $1 != restart ] || cat "$HARDWAY_ROOT/gate"\necho "$*" >>"$HARDWAY_ROOT/log"\n')
    change = Apply(
        moves=(move(A, b"a"),),
        contents=(b"a",),
        owed=frozenset({"etcd.service"}),
        actions=(Action(verb="restart", unit="etcd.service"), Action(verb="start", unit="other.service")),
    )
    _, channel = host.machine(shell)._begin([protocol.apply(change)])
    assert isinstance(channel, LocalChannel)
    with gate.open("w"):  # opens once systemctl waits there
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            os.killpg(channel.process.pid, number)
        channel.close(wait=False)
    assert channel.process.wait() == 0
    assert host.log() == ["restart etcd.service", "start other.service"]
    assert not host.leftovers()


def test_a_stored_binary_is_linked_once_and_then_copied(host: FakeHost, tmp_path: Path) -> None:
    machine = host.machine()
    data = b"binary"
    machine.store([blob(tmp_path / "b", data)])
    machine.apply(Apply(moves=(move(C, data, mode=0o755), move(A, data, mode=0o700))))
    inodes = [path.stat().st_ino for path in (host.path(C), host.path(A), host.path(f"/var/lib/hardway/store/{sha(data)}"))]
    assert len(set(inodes)) == 2
    assert {p: d.mode for p, d in machine.observe(frozenset({A, C})).files.items()} == {A: 0o700, C: 0o755}


def test_a_damaged_store_is_not_linked_from_and_mends(host: FakeHost, tmp_path: Path) -> None:
    machine = host.machine()
    machine.store([blob(tmp_path / "b", b"binary")])
    host.path(f"/var/lib/hardway/store/{sha(b'binary')}").write_bytes(b"rotten")
    change = Apply(moves=(move(C, b"binary"),))
    with pytest.raises(Mistake, match=r"the store's copy for /usr/local/bin/c was damaged and is gone; run ./inv push again"):
        machine.apply(change)
    assert machine.observe(frozenset()).stored == frozenset()
    machine.store([blob(tmp_path / "b", b"binary")])
    machine.apply(change)
    assert host.path(C).read_bytes() == b"binary"


@pytest.mark.parametrize("shell", DASH_AND_IN_FULL_THE_OTHERS)
def test_texts_are_read_and_commands_run(host: FakeHost, shell: str) -> None:
    machine = host.machine(shell)
    text = "line\n\nfail\tno\nend 0\n" * 100
    machine.apply(Apply(moves=(move(A, text.encode()),), contents=(text.encode(),)))
    assert machine.read([A, B]) == {A: text}
    assert machine.run("printf", "fail\tx") == "fail\tx"
    assert machine.run("cat", str(host.path(A))) == text
    with pytest.raises(Mistake, match=r"^c1: `sh` ended with 3: too bad$"):
        machine.run("sh", "-c", "echo fine; echo too bad >&2; exit 3")
    with pytest.raises(Mistake, match="`no-such-program` ended with 127"):
        machine.run("no-such-program")


def test_paths_and_names_that_could_mean_something_else_are_refused(host: FakeHost) -> None:
    for path in ("relative", "/etc/../shadow", "/a\nb", "/a\tb", "/a\\b"):
        with pytest.raises(ValueError, match="plain absolute path"):
            host.machine().observe(frozenset({PurePosixPath(path)}))
    for unit in ("", "-H evil", "a b", "../x"):
        with pytest.raises(ValueError, match="not a unit"):
            host.machine().settle([unit])
    with pytest.raises(ValueError, match="twice"):
        host.machine().apply(Apply(moves=(move(A, b""), move(A, b"x"))))


def test_a_secret_does_not_show(host: FakeHost) -> None:
    change = put(A, b"swordfish", mode=0o600)
    assert "swordfish" not in repr(change)
    host.program("sha256sum", "#!/bin/sh\nps -eo args >>$HARDWAY_ROOT/ps\nexec " + str(shutil.which("sha256sum")) + ' "$@"\n')
    host.machine().apply(change)
    assert "swordfish" not in host.path("/ps").read_text()


def test_a_witness_is_there_from_before_a_change_until_after_it_also_if_it_fails(host: FakeHost) -> None:
    seen: list[tuple[str, str, bool]] = []

    @contextmanager
    def witness(name: str, change: Apply) -> Iterator[None]:
        seen.append((name, str(change.moves[0].path), host.path(str(A)).exists()))
        try:
            yield
        finally:
            seen.append((name, "after", host.path(str(A)).exists()))

    machine = host.machine("dash")
    machine.witness = witness
    machine.apply(put(A, b"new"))
    with pytest.raises(Mistake):
        machine.apply(put(A, b"newer"))  # somebody has put one there

    assert seen == [
        (machine.name, str(A), False),
        (machine.name, "after", True),
        (machine.name, str(A), True),
        (machine.name, "after", True),
    ]
