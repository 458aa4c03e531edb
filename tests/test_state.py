from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state" / "kit")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_what_is_written_is_read_again_and_only_its_owner_has_access(state: State) -> None:
    before = os.umask(0)
    try:
        state.write("pki/etcd/etcd-peer@controller-1.pem", b"key")
    finally:
        os.umask(before)

    assert state.read("pki/etcd/etcd-peer@controller-1.pem") == b"key"
    assert mode(state.path("pki/etcd/etcd-peer@controller-1.pem")) == 0o600
    for directory in (state.root.parent, state.root, state.path("pki"), state.path("pki/etcd")):
        assert mode(directory) == 0o700


def test_a_key_that_others_can_read_is_refused_with_the_next_step(state: State) -> None:
    state.write("admin.pem", b"key")
    state.path("admin.pem").chmod(0o640)

    with pytest.raises(Mistake, match=r"admin\.pem: others than its owner have access \(mode 0640\).*chmod go= "):
        state.read("admin.pem")


@pytest.mark.parametrize(
    "act", [lambda s: s.read("a"), lambda s: s.write("a", b""), lambda s: s.glob("*"), lambda s: s.locked().__enter__()]
)
def test_a_directory_that_others_can_enter_is_refused(state: State, act: Callable[[State], object]) -> None:
    state.write("a", b"key")
    state.root.chmod(0o755)

    with pytest.raises(Mistake, match=re.escape(str(state.root))):
        act(state)


def test_a_write_that_fails_leaves_what_was_there_and_nothing_beside_it(state: State) -> None:
    state.write("pki/kept", b"old")
    state.path("pki/taken").mkdir()

    with pytest.raises(Mistake, match="cannot be written: Is a directory"):
        state.write("pki/taken", b"new")

    assert sorted(path.name for path in state.path("pki").iterdir()) == ["kept", "taken"]
    assert state.read("pki/kept") == b"old"


def test_a_file_that_a_reader_holds_open_is_replaced_not_rewritten(state: State) -> None:
    state.write("a", b"old")
    with state.path("a").open("rb") as held:
        state.write("a", b"new")

        assert held.read() == b"old"
    assert state.read("a") == b"new"


def test_a_missing_file_is_told_by_its_path(state: State) -> None:
    with pytest.raises(Mistake, match="absent: cannot be read: No such file"):
        state.read("absent")


def test_names_are_listed_in_order_and_without_what_a_crash_left(state: State) -> None:
    for name in ("b.pem", "a.pem", ".half.pem"):
        state.write(name, b"")

    assert state.glob("*.pem") == ("a.pem", "b.pem")


def test_a_second_run_in_the_same_directory_is_refused_until_the_first_has_ended(state: State) -> None:
    with state.locked(), pytest.raises(Mistake, match="another run"), state.locked():
        pass
    with state.locked():
        pass


def test_a_draft_leaves_the_original_alone_until_it_is_kept(state: State) -> None:
    state.write("pki/etcd/authority-2026a.pem", b"old")
    with state.draft() as draft:
        draft.state.write("pki/etcd/authority-2026a.pem", b"new")
        draft.state.write("pki/etcd/etcdctl@controller-1.pem", b"leaf")
        assert state.read("pki/etcd/authority-2026a.pem") == b"old"
        assert mode(draft.state.path("pki/etcd/authority-2026a.pem")) == 0o600
        draft.keep()

    assert state.read("pki/etcd/authority-2026a.pem") == b"new"
    assert state.read("pki/etcd/etcdctl@controller-1.pem") == b"leaf"
    assert {path.name for path in state.root.iterdir()} == {"pki", ".lock"}


def test_a_draft_that_is_not_kept_leaves_nothing(state: State) -> None:
    with state.draft() as draft:
        draft.state.write("pki/etcd/authority-2026a.pem", b"new")

    assert [path.name for path in state.root.iterdir()] == [".lock"]


def test_a_draft_is_refused_whole_if_somebody_else_has_issued_meanwhile(state: State) -> None:
    with state.draft() as draft:
        draft.state.write("pki/etcd/authority-2026a.pem", b"ours")
        state.write("pki/etcd/authority-2026a.pem", b"theirs")
        with pytest.raises(Mistake, match="another run has issued certificates meanwhile; run it again"):
            draft.keep()

    assert state.read("pki/etcd/authority-2026a.pem") == b"theirs"


def test_what_is_removed_is_gone_and_what_is_gone_already_is_no_matter(state: State) -> None:
    state.write("pki/a.pem", b"key")
    state.write("pki/b.pem", b"key")

    state.remove("pki/a.pem")
    state.remove("pki/a.pem")

    assert state.glob("pki/*") == ("pki/b.pem",)


def test_everything_secret_that_others_can_read_is_told_at_once(state: State) -> None:
    for name in ("pki/etcd/a.pem", "pki/etcd/b.pem", "admin.kubeconfig", "known_hosts", "lab/id.pub"):
        state.write(name, b"")
    state.refuse_if_loose()
    for name, loose in (
        ("pki/etcd/a.pem", 0o604),
        ("pki/etcd", 0o710),
        ("admin.kubeconfig", 0o620),
        ("known_hosts", 0o644),
        ("lab/id.pub", 0o644),
    ):
        state.path(name).chmod(loose)

    with pytest.raises(Mistake) as refused:
        state.refuse_if_loose()

    named = [finding.where.removeprefix(f"{state.root}/") for finding in refused.value.findings]
    assert named == ["admin.kubeconfig", "pki/etcd", "pki/etcd/a.pem"]
    assert all(finding.next_step.endswith(f"`chmod go= {finding.where}`") for finding in refused.value.findings)


def test_what_is_read_together_was_written_together(state: State) -> None:
    """A reader that comes while another run writes waits for all of it."""
    state.write("pki/one", b"old")
    state.write("pki/two", b"old")
    read: list[dict[str, bytes]] = []

    def reader() -> None:
        with state.draft() as draft:
            read.append(dict(draft.base))

    with state.locked():
        state.write("pki/one", b"new")
        beside = threading.Thread(target=reader)
        beside.start()
        while beside.is_alive() and not waits(state):
            pass
        state.write("pki/two", b"new")
    beside.join()

    assert read == [{"pki/one": b"new", "pki/two": b"new"}]


def waits(state: State) -> bool:
    """Whether somebody waits for the lock, as the kernel says."""
    inode = state.path(".lock").stat().st_ino
    return any("->" in line and f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())
