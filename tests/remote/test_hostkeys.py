"""Host keys: new ones are recorded, known ones are left, changed ones are told apart; with a real sshd."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.remote.ssh import hostkeys, line
from tests.remote.sshd import Sshd, free_port, make_key


def asked(sshd: Sshd, known_hosts: Path) -> hostkeys.HostKey:
    host = sshd.host()
    return hostkeys.compared(host, *line(host, identity=None, known_hosts=known_hosts, config=known_hosts.with_name("config")).shown_key())


def test_a_new_key_is_recorded_and_then_the_host_is_known(sshd: Sshd, tmp_path: Path) -> None:
    known_hosts = tmp_path / "state" / "known_hosts"
    first = asked(sshd, known_hosts)
    assert first.known == "new"
    assert first.fingerprint.startswith("SHA256:")

    hostkeys.record([first], known_hosts)

    assert asked(sshd, known_hosts).known == "known"
    with_it = line(sshd.host(), identity=sshd.identity, known_hosts=known_hosts)
    assert with_it.execute("true").finish()[0] == 0
    with_it.close()


def test_a_changed_key_is_told_and_replaced_only_when_it_is_recorded(sshd: Sshd, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    other = f"192.0.2.1 {make_key(tmp_path / 'theirs')}"
    known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {make_key(tmp_path / 'other')}{other}")
    changed = asked(sshd, known_hosts)
    assert changed.known == "changed"

    hostkeys.record([changed], known_hosts)

    assert asked(sshd, known_hosts).known == "known"
    assert "192.0.2.1" in known_hosts.read_text()


def test_what_the_operator_knows_already_is_known(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"UserKnownHostsFile {sshd.known_hosts}\n")

    assert asked(sshd, tmp_path / "none").known == "known"


def test_what_was_recorded_here_counts_before_what_the_operator_knew(sshd: Sshd, tmp_path: Path) -> None:
    """Else a key that hosts.trust has replaced would stay refused."""
    (tmp_path / "theirs").write_text(f"[127.0.0.1]:{sshd.port} {make_key(tmp_path / 'other')}")
    (tmp_path / "config").write_text(f"UserKnownHostsFile {tmp_path / 'theirs'}\n")
    changed = asked(sshd, tmp_path / "known_hosts")
    assert changed.known == "changed"

    hostkeys.record([changed], tmp_path / "known_hosts")

    assert asked(sshd, tmp_path / "known_hosts").known == "known"
    with_it = line(sshd.host(key=sshd.identity), identity=None, known_hosts=tmp_path / "known_hosts", config=tmp_path / "config")
    assert with_it.execute("true").finish()[0] == 0
    with_it.close()


def test_a_host_that_is_down_is_a_mistake(sshd: Sshd, tmp_path: Path) -> None:
    gone = Sshd(base=sshd.base, port=free_port(), process=sshd.process)

    with pytest.raises(Mistake, match=r"c1: cannot be reached at 127\.0\.0\.1 port"):
        line(gone.host(), identity=None, known_hosts=tmp_path / "none").shown_key()
