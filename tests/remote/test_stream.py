"""A command's output comes back piece by piece, byte for byte, whatever is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hardway.errors import Mistake
from tests.remote.fakehost import FakeHost, LocalChannel
from tests.remote.test_machine import SHELLS


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("content", [b"", b"\n", b"\nsaid \nend \n\0\xff" * 3, os.urandom(3_000_000)])
def test_every_byte_of_it_arrives(host: FakeHost, shell: str, content: bytes) -> None:
    host.path("/content").write_bytes(content)
    got = bytearray()

    said = host.machine(shell).stream(got.extend, "sh", "-c", "echo beside >&2; cat $HARDWAY_ROOT/content")

    assert bytes(got) == content
    assert said == "beside"


def test_it_is_not_held_in_memory(host: FakeHost) -> None:
    host.path("/content").write_bytes(bytes(5_000_000))
    sizes: list[int] = []

    host.machine().stream(lambda piece: sizes.append(len(piece)), "sh", "-c", "cat $HARDWAY_ROOT/content")

    assert sum(sizes) == 5_000_000
    assert max(sizes) < 1 << 17


def test_a_mark_that_comes_in_two_pieces_is_seen(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalChannel, "receive", lambda self: os.read(self.process.stdout.fileno(), 3))
    got = bytearray()

    assert host.machine().stream(got.extend, "sh", "-c", "printf 123456789; echo beside >&2") == "beside"
    assert got == b"123456789"


def test_a_command_that_fails_is_told_with_what_it_said(host: FakeHost) -> None:
    with pytest.raises(Mistake, match="c1: `sh` ended with 3: no space"):
        host.machine().stream(lambda _: None, "sh", "-c", "echo half; echo no space >&2; exit 3")


def test_what_cannot_be_written_ends_it(host: FakeHost, tmp_path: Path) -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    host.path("/content").write_bytes(bytes(5_000_000))

    with pytest.raises(OSError, match="No space left"):
        host.machine().stream(full, "sh", "-c", "cat $HARDWAY_ROOT/content")
