from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.keeping import backup as keeping
from hardway.keeping.archive import Header, Writer
from hardway.state import State

NOW = datetime(2026, 11, 25, tzinfo=UTC)
CHEAP = 2
FILES = {
    "pki/kubernetes/authority-2026a.pem": b"a key",
    "pki/etcd/etcd-peer@controller-1.pem": b"another",
    "pod-ranges.json": b"{}",
    "known_hosts": b"10.240.0.11 ssh-ed25519 AAAA\n",
}


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "state" / "kit")
    for name, data in FILES.items():
        state.write(name, data)
    state.path("known_hosts").chmod(0o644)  # as the lab writes it
    return state


@pytest.fixture
def kept(state: State, tmp_path: Path) -> Path:
    file = tmp_path / "kit.backup"
    keeping.backup(state, "kit", file, b"secret", NOW, CHEAP)
    return file


def content(state: State) -> dict[str, bytes]:
    return {name: state.path(name).read_bytes() for name in keeping.names(state)}


def tree(directory: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(directory.rglob("*")) if path.name != ".lock"}


def test_a_backup_brings_everything_back_to_an_empty_place(kept: Path, tmp_path: Path) -> None:
    other = State(tmp_path / "elsewhere" / "state" / "kit")

    count, before = keeping.restore(other, "kit", kept, lambda: b"secret", NOW)

    assert (count, before) == (len(FILES), None)
    assert content(other) == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in other.root.rglob("*") if path.is_file()} == {0o600}
    assert [path.name for path in other.root.parent.iterdir()] == ["kit"]


def test_a_backup_is_the_owners_alone_and_shows_no_key(kept: Path) -> None:
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert b"a key" not in kept.read_bytes()
    assert b"authority" not in kept.read_bytes()


def test_what_belongs_to_the_machine_or_lies_elsewhere_is_left_out(state: State, tmp_path: Path) -> None:
    (tmp_path / "stick.key").write_bytes(b"a key that is kept apart")
    (tmp_path / "stick.key").chmod(0o600)
    state.link("pki/kubernetes/authority-2026a.key", tmp_path / "stick.key")
    for name in ("lab/hosts/worker-1/shadow", "snapshots/one.db", ".draft-x/pki/a.pem"):
        state.write(name, b"no")

    assert content(state) == FILES


def test_no_backup_is_overwritten(state: State, kept: Path) -> None:
    before = kept.read_bytes()

    with pytest.raises(Mistake, match="is there already"):
        keeping.backup(state, "kit", kept, b"secret", NOW, CHEAP)
    assert kept.read_bytes() == before


def test_a_backup_that_cannot_be_written_leaves_nothing(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Writer, "close", full)
    with pytest.raises(Mistake, match=r"kit\.backup: cannot be written: No space left on device"):
        keeping.backup(state, "kit", tmp_path / "kit.backup", b"secret", NOW, CHEAP)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_an_empty_state_is_not_worth_a_backup(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="there is nothing to keep"):
        keeping.backup(State(tmp_path / "state" / "kit"), "kit", tmp_path / "b", b"secret", NOW, CHEAP)


def test_a_state_that_is_there_is_not_overwritten_unless_told_and_then_kept_beside(state: State, kept: Path) -> None:
    state.write("pki/kubernetes/authority-2026b.pem", b"a newer key")
    state.write("lab/id_ed25519", b"of this machine")
    changed = content(state)
    with pytest.raises(Mistake, match=r"there is a state/ already.*--replace"):
        keeping.restore(state, "kit", kept, lambda: b"secret", NOW)
    assert content(state) == changed

    _, before = keeping.restore(state, "kit", kept, lambda: b"secret", NOW, replace=True)

    assert content(state) == FILES
    assert before is not None
    assert content(State(before)) == {name: data for name, data in changed.items() if name != "known_hosts"}
    assert state.read("lab/id_ed25519") == b"of this machine"


def altered(whole: bytes) -> bytes:
    return whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]


@pytest.mark.parametrize(
    ("cluster", "passphrase", "damage", "told"),
    [
        ("kit", b"wrong", lambda whole: whole, "the passphrase is wrong"),
        ("other", b"secret", lambda whole: whole, "it is of cluster kit, this one is other"),
        ("kit", b"secret", lambda whole: whole[:-1], "it was altered"),
        ("kit", b"secret", altered, "it was altered"),
        ("kit", b"secret", lambda whole: whole.replace(b'"kit"', b'"kat"'), "of cluster kat"),
        ("kit", b"secret", lambda _: b"", "it is no archive"),
        ("kit", b"secret", lambda _: b"\x1f\x8b\x08" + bytes(1000), "it is no archive"),
    ],
)
def test_what_is_not_the_backup_of_this_cluster_changes_nothing(
    state: State, kept: Path, cluster: str, passphrase: bytes, damage: Callable[[bytes], bytes], told: str
) -> None:
    kept.write_bytes(damage(kept.read_bytes()))
    before = tree(state.root.parent)

    with pytest.raises(Mistake, match=told):
        keeping.restore(state, cluster, kept, lambda: passphrase, NOW, replace=True)

    assert tree(state.root.parent) == before


def test_another_clusters_backup_is_told_before_a_passphrase_is_asked_for(state: State, kept: Path) -> None:
    def never() -> bytes:
        raise AssertionError

    with pytest.raises(Mistake, match="of cluster kit"):
        keeping.restore(state, "other", kept, never, NOW, replace=True)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type, one.linkname = kind, link
    return one


@pytest.mark.parametrize(
    "evil",
    [
        member("../escaped"),
        member("pki/../../escaped"),
        member("/etc/escaped"),
        member("pki", tarfile.SYMTYPE, "/etc"),
        member("pki", tarfile.LNKTYPE, "/etc/passwd"),
        member("pki/fifo", tarfile.FIFOTYPE),
        member("pki/device", tarfile.CHRTYPE),
        member(".lock"),
        member("pki/a\nb"),
    ],
    ids=lambda one: f"{one.name!r}-{one.type!r}",
)
def test_who_knows_the_passphrase_still_writes_nowhere_else(tmp_path: Path, evil: tarfile.TarInfo) -> None:
    file = tmp_path / "evil.backup"
    with file.open("wb") as out:
        writer = Writer(out, Header.new("kit", NOW, CHEAP), b"secret")
        with tarfile.open(fileobj=writer, mode="w|") as tar:  # type: ignore[call-overload]
            good = member("pki/good.pem")
            good.size = 4
            tar.addfile(good, io.BytesIO(b"good"))
            tar.addfile(evil)
        writer.close()
    state = State(tmp_path / "state" / "kit")

    with pytest.raises(Mistake, match="nothing that this kit writes"):
        keeping.restore(state, "kit", file, lambda: b"secret", NOW)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_a_restore_does_not_run_beside_a_run_that_writes(state: State, kept: Path) -> None:
    with state.locked(), pytest.raises(Mistake, match="another run of this kit is writing here"):
        keeping.restore(state, "kit", kept, lambda: b"secret", NOW, replace=True)

    assert content(state) == FILES


def test_a_restore_that_is_killed_at_any_step_leaves_the_old_keys_or_the_new(
    state: State, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys go and come as a whole, and last."""

    class KilledError(Exception):
        pass

    real, left = Path.rename, 0

    def killed(self: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1
        return real(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    for steps in range(20):
        left = steps
        try:
            keeping.restore(state, "kit", kept, lambda: b"secret", datetime(2026, 11, 25, 0, 0, steps, tzinfo=UTC), replace=True)
        except KilledError:
            keys = {name: data for name, data in content(state).items() if name.startswith("pki/")}
            assert keys in ({}, {name: data for name, data in FILES.items() if name.startswith("pki/")})
        else:
            break
    assert 1 < steps < 19
    assert content(state) == FILES


def test_a_key_that_others_can_read_is_not_backed_up(state: State, tmp_path: Path) -> None:
    state.path("pki/kubernetes/authority-2026a.pem").chmod(0o644)

    with pytest.raises(Mistake, match=r"authority-2026a\.pem: others than its owner have access"):
        keeping.backup(state, "kit", tmp_path / "b", b"secret", NOW, CHEAP)
    assert not (tmp_path / "b").exists()


def test_an_archive_is_read_to_its_own_end_also_where_tar_has_seen_enough(tmp_path: Path) -> None:
    file, state = tmp_path / "kit.backup", State(tmp_path / "state" / "kit")
    with file.open("wb") as out:
        writer = Writer(out, Header.new("kit", NOW, CHEAP), b"secret")
        with tarfile.open(fileobj=writer, mode="w|") as tar:  # type: ignore[call-overload]
            tar.addfile(member("pki/good.pem"))
        writer.write(bytes(300_000))
        writer.close()
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(Mistake, match="it was altered or cut short"):
        keeping.restore(state, "kit", file, lambda: b"secret", NOW)
    assert not state.root.exists()
