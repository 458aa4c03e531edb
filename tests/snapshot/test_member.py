"""A member's data changes places by renames: cut short anywhere, the same again ends it, and the old data is never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.snapshot.member import ask
from tests.remote.fakehost import FakeHost

SHELLS = ("dash", "bash")
DATA = "/var/lib/etcd"
ETCDUTL = """#!/bin/sh
case "$*" in
  *"snapshot restore"*)
    echo "$*" >>"$HARDWAY_ROOT/log"
    [ ! -e "$HARDWAY_ROOT/damaged" ] || { echo "opening"; echo "Error: expected sha256"; exit 1; }
    while [ "$1" != --data-dir ]; do shift; done
    mkdir -p "$2/member"; echo new >"$2/member/db" ;;
  *"snapshot status"*) echo '{"revision":7,"hash":5,"totalKey":3}' ;;
esac
"""
ETCDCTL = """#!/bin/sh
for last; do :; done
[ ! -e "$HARDWAY_ROOT/damaged" ] || { echo '{"level":"warn"}' >&2; echo "Error: context deadline exceeded" >&2; exit 1; }
printf 'a snapshot' >"$last"
"""


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(base=tmp_path)
    made.program("etcdutl", ETCDUTL)
    made.program("etcdctl", ETCDCTL)
    made.program("chown", "#!/bin/sh\n")
    made.program(
        "systemctl",
        '#!/bin/sh\n[ "$1" != --version ] || exec echo systemd 252\n[ -e "$HARDWAY_ROOT/runs" ] && echo active || echo inactive\n',
    )
    made.path("/var/lib/hardway/store").mkdir(parents=True)
    put(made, "member", "old")
    return made


def put(host: FakeHost, where: str, text: str) -> None:
    host.path(f"{DATA}/{where}").mkdir(parents=True)
    host.path(f"{DATA}/{where}/db").write_text(f"{text}\n")


def held(host: FakeHost) -> dict[str, str]:
    root = host.path(DATA)
    return {path.parent.relative_to(root).as_posix(): path.read_text().strip() for path in sorted(root.rglob("db"))}


def call(host: FakeHost, *words: str, shell: str = "dash") -> str:
    return host.machine(shell).run(*(shell if word == "sh" and n == 0 else word for n, word in enumerate(ask(*words))))


def stage(host: FakeHost, shell: str = "dash") -> None:
    call(host, "stage", "1", "cafe", "c1", "https://c1:2380", "c1=https://c1:2380", "1000", shell=shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_new_data_takes_the_place_of_the_old_which_is_kept(host: FakeHost, shell: str) -> None:
    stage(host, shell)
    assert held(host) == {"member": "old", "restored-1/member": "new"}
    assert call(host, "stands", "1", shell=shell) == "staged\n"
    call(host, "mark", "1", "cafe", "1000", "one.db", shell=shell)
    assert host.machine(shell).observe(frozenset()).restoring == "1 cafe 1000 one.db"
    call(host, "swap", "1", shell=shell)
    assert call(host, "stands", "1", shell=shell) == "swapped\n"
    call(host, "unmark", "1", "cafe", shell=shell)
    assert held(host) == {"before-1/member": "old", "member": "new"}
    assert host.machine(shell).observe(frozenset()).restoring == ""
    assert "--initial-cluster-token restored-1 --bump-revision 1000 --mark-compacted" in host.log()[0]


def test_new_data_is_made_once(host: FakeHost) -> None:
    stage(host)
    stage(host)
    call(host, "swap", "1")
    stage(host)

    assert len(host.log()) == 1
    assert held(host) == {"before-1/member": "old", "member": "new"}


def test_what_an_attempt_that_never_began_has_left_goes(host: FakeHost) -> None:
    put(host, "restored-0/member", "stale")
    put(host, "restored-1.part/member", "half")
    stage(host)

    assert held(host) == {"member": "old", "restored-1/member": "new"}


def test_a_snapshot_that_etcdutl_refuses_is_told_in_its_last_line(host: FakeHost) -> None:
    host.path("/damaged").touch()

    with pytest.raises(Mistake, match="expected sha256"):
        stage(host)
    call(host, "unstage", "1", "cafe")
    assert held(host) == {"member": "old"}


@pytest.mark.parametrize("do", ["swap", "back"])
def test_nothing_is_moved_under_a_member_that_runs(host: FakeHost, do: str) -> None:
    stage(host)
    host.path("/runs").touch()
    before = held(host)

    with pytest.raises(Mistake, match="etcd still runs"):
        call(host, do, "1")
    assert held(host) == before


def cut_after_the_first_rename(host: FakeHost) -> None:
    host.path(f"{DATA}/before-1").mkdir()
    host.path(f"{DATA}/member").rename(host.path(f"{DATA}/before-1/member"))


def cut_before_the_first_rename(host: FakeHost) -> None:
    host.path(f"{DATA}/before-1").mkdir()


@pytest.mark.parametrize("cut", [cut_before_the_first_rename, cut_after_the_first_rename])
def test_half_a_swap_is_ended(host: FakeHost, cut: object) -> None:
    assert callable(cut)
    stage(host)
    cut(host)
    assert call(host, "stands", "1") == "between\n"
    call(host, "swap", "1")
    assert held(host) == {"before-1/member": "old", "member": "new"}


@pytest.mark.parametrize("cut", [cut_before_the_first_rename, cut_after_the_first_rename])
def test_half_a_swap_is_undone(host: FakeHost, cut: object) -> None:
    assert callable(cut)
    stage(host)
    cut(host)
    call(host, "back", "1")
    assert held(host) == {"member": "old"}


def test_a_swap_is_undone_and_that_can_be_cut_short_too(host: FakeHost) -> None:
    stage(host)
    call(host, "swap", "1")
    host.path(f"{DATA}/restored-1").mkdir(exist_ok=True)
    host.path(f"{DATA}/member").rename(host.path(f"{DATA}/restored-1/member"))  # as far as `back` had come

    call(host, "back", "1")
    call(host, "back", "1")

    assert held(host) == {"member": "old"}
    assert call(host, "stands", "1") == "nowhere\n"


def test_a_member_that_a_reboot_has_made_in_between_is_kept_beside_the_old_one(host: FakeHost) -> None:
    stage(host)
    cut_after_the_first_rename(host)
    put(host, "member", "made by the reboot")
    call(host, "swap", "1")

    kept = held(host)
    assert (kept.pop("member"), kept.pop("before-1/member")) == ("new", "old")
    assert list(kept.values()) == ["made by the reboot"]


def test_a_snapshot_comes_whole_and_leaves_nothing(host: FakeHost) -> None:
    got = bytearray()

    said = host.machine().stream(got.extend, *ask("save", "https://c1:2379"))

    assert got == b"a snapshot"
    assert said == '{"revision":7,"hash":5,"totalKey":3}'
    assert not host.path("/var/lib/hardway/snapshot").exists()


def test_a_member_that_gives_no_snapshot_is_told_and_nothing_stays(host: FakeHost) -> None:
    host.path("/damaged").touch()

    with pytest.raises(Mistake, match="Error: context deadline exceeded"):
        host.machine().stream(lambda _: None, *ask("save", "https://c1:2379"))
    assert not host.path("/var/lib/hardway/snapshot").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_member_joins_by_what_goes_as_soon_as_it_has_joined(host: FakeHost, shell: str) -> None:
    """Also if the kit is killed: with `existing`, one that loses its data again would begin as if it had never voted."""
    at = host.path("/run/systemd/system/etcd.service.d")
    at.mkdir(parents=True)
    (at / "own.conf").touch()

    call(host, "join", shell=shell)

    env, conf = at / "rejoin.env", (at / "rejoin.conf").read_text()
    assert env.read_text() == "ETCD_INITIAL_CLUSTER_STATE=existing\n"
    assert conf.splitlines()[1] == f"EnvironmentFile=-{env}"  # one that is gone is none
    assert conf.splitlines()[-1] == f"ExecStartPost=+/bin/rm -f {env}"
    call(host, "joined", shell=shell)
    assert [path.name for path in at.iterdir()] == ["own.conf"]
    call(host, "joined", shell=shell)
