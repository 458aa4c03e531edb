from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from hardway.keeping.archive import PIECE, BrokenError, Header, Reader, Writer

TAG = 16
CHEAP = 2  # of scrypt, in tests


def archive(data: bytes, passphrase: bytes = b"secret") -> bytes:
    out = io.BytesIO()
    writer = Writer(out, Header.new("kit", datetime.now(UTC), CHEAP), passphrase)
    writer.write(data[:10])
    writer.write(data[10:])
    writer.close()
    return out.getvalue()


def opened(whole: bytes, passphrase: bytes = b"secret") -> bytes:
    source = io.BytesIO(whole)
    reader = Reader(source, Header.read(source), lambda: passphrase)
    found = b"".join(iter(lambda: reader.read(1000), b""))
    reader.finish()
    return found


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_what_goes_in_comes_out(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)

    assert opened(archive(data[:size])) == data[:size]


def test_what_was_written_shows_nothing_but_whose_it_is() -> None:
    whole = archive(b"PRIVATE KEY " * 1000)

    assert b"PRIVATE" not in whole
    assert Header.read(io.BytesIO(whole)).cluster == "kit"
    assert archive(b"the same") != archive(b"the same")


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(BrokenError, match="the passphrase is wrong"):
        opened(archive(b"data"), b"Secret")


@pytest.mark.parametrize("size", [0, 100, 2 * PIECE, 2 * PIECE + 100])
def test_every_end_but_its_own_is_refused(size: int) -> None:
    whole = archive(b"x" * size)
    body = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    ends = {0, 5, body - 1, body, body + 1, body + PIECE, body + PIECE + TAG, body + 2 * (PIECE + TAG), len(whole) - 1}

    for end in (end for end in ends if end < len(whole)):
        with pytest.raises(BrokenError):
            opened(whole[:end])


def test_what_is_behind_its_end_is_refused() -> None:
    for more in (b"x", b"x" * TAG, b"x" * (PIECE + TAG)):
        with pytest.raises(BrokenError):
            opened(archive(b"x" * PIECE) + more)


def test_a_byte_that_is_another_is_refused_wherever_it_is() -> None:
    whole = archive(b"x" * 200)
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(BrokenError):
            opened(changed)


def test_pieces_that_changed_places_are_refused() -> None:
    whole = archive(b"x" * (3 * PIECE))
    body = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    first, second, rest = (
        whole[body:][part] for part in (slice(PIECE + TAG), slice(PIECE + TAG, 2 * (PIECE + TAG)), slice(2 * (PIECE + TAG), None))
    )

    for pieces in (second + first + rest, first + rest, first + first + second + rest):
        with pytest.raises(BrokenError):
            opened(whole[:body] + pieces)


def test_a_header_that_asks_for_all_memory_is_refused() -> None:
    whole = archive(b"data").replace(b'"n": 2,', b'"n": 1073741824,')

    with pytest.raises(BrokenError, match="header"):
        opened(whole)
