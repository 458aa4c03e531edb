from __future__ import annotations

import shutil
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hardway.inventory import Host, Ssh
from hardway.lab import keys


def host(name: str, address: str, port: int = 22) -> Host:
    return Host(name=name, address=IPv4Address(address), roles=frozenset({"controller"}), ssh=Ssh(port=port))


def test_known_hosts_keeps_the_lines_of_other_hosts() -> None:
    before = "192.0.2.7 ssh-ed25519 AAAAother\n10.0.0.11 ssh-rsa AAAAold\n"

    after = keys.known(before, [(host("a", "10.0.0.11"), "ssh-ed25519 AAAAnew a"), (host("b", "10.0.0.12", 2222), "ssh-ed25519 AAAAb b")])

    assert after == "192.0.2.7 ssh-ed25519 AAAAother\n10.0.0.11 ssh-ed25519 AAAAnew\n[10.0.0.12]:2222 ssh-ed25519 AAAAb\n"
    assert keys.known(after, [(host("a", "10.0.0.11"), "ssh-ed25519 AAAAnew a")]) != ""


def test_an_unchanged_known_hosts_is_not_written_again(tmp_path: Path) -> None:
    wanted = [(host("a", "10.0.0.11"), "ssh-ed25519 AAAA a")]
    keys.write_known(tmp_path / "known_hosts", wanted)
    inode = (tmp_path / "known_hosts").stat().st_ino

    keys.write_known(tmp_path / "known_hosts", wanted)

    assert (tmp_path / "known_hosts").stat().st_ino == inode
    assert [file.name for file in tmp_path.iterdir()] == ["known_hosts"]


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="wants ssh-keygen")
def test_a_key_is_made_once_and_a_half_made_one_again(tmp_path: Path) -> None:
    public = keys.ensure(tmp_path / "key", "lab")
    assert public.startswith("ssh-ed25519 ")
    assert keys.ensure(tmp_path / "key", "lab") == public
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600

    (tmp_path / "key").unlink()  # killed between the two halves
    (tmp_path / "key.part").write_text("half")

    assert keys.ensure(tmp_path / "key", "lab") != public
    assert sorted(file.name for file in tmp_path.iterdir()) == ["key", "key.pub"]
