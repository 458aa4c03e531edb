"""What a command has written comes in frames, which the network cuts as it likes."""

from __future__ import annotations

import pytest

from hardway.traffic.wire.websocket import messages


def frame(payload: bytes, opcode: int = 2) -> bytes:
    size = len(payload)
    head = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 1 << 16 else b"\x7f" + size.to_bytes(8)
    return bytes([0x80 | opcode]) + head + payload


@pytest.mark.parametrize("piece", [1, 2, 7, 1 << 20])
def test_frames_of_every_length_are_put_together(piece: int) -> None:
    payloads = [b"", b"\x01here\n", b"x" * 125, b"x" * 126, b"x" * 3000, b"x" * 70000]
    data = b"".join(map(frame, payloads)) + frame(b"", 8)

    found = list(messages(data[i : i + piece] for i in range(0, len(data), piece)))

    assert [payload for _, payload in found] == [*payloads, b""]
    assert [opcode for opcode, _ in found] == [2] * len(payloads) + [8]
