"""A command in a container, over a WebSocket: https://www.rfc-editor.org/rfc/rfc6455 as the API server speaks it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping

from hardway.traffic.wire.connection import Ask, Wire
from hardway.traffic.wire.http1 import Http1

PROTOCOL = "v5.channel.k8s.io"
STDOUT, ERROR = 1, 3  # channels: the first byte of each message
CLOSE = 8  # opcode
SWITCHING = 101


def run(wire: Wire, path: str, headers: Mapping[str, str], within: float) -> tuple[int, bytes]:
    """The status, 200 for a command that ended well, and what it wrote. Raises Lost."""
    assert isinstance(wire, Http1)  # noqa: S101 - HTTP/2 has no such upgrade here
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Protocol": PROTOCOL,
    }
    status = wire.begin(Ask(method="GET", path=path, headers={**headers, **upgrade}), within).status
    if status != SWITCHING:
        return status, b"".join(wire.pieces(within))
    said = b""
    for opcode, payload in messages(wire.frames(within)):
        if opcode == CLOSE:
            break
        if payload[:1] == bytes([STDOUT]):
            said += payload[1:]
        elif payload[:1] == bytes([ERROR]):
            ended = json.loads(payload[1:])
            return (200, said) if ended.get("status") == "Success" else (500, str(ended.get("message")).encode())
    return 500, b"closed before the command had ended"


def messages(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each frame; a server's are not masked, and the API server's are whole messages."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        while (found := _frame(buffer)) is not None:
            opcode, payload, buffer = found
            yield opcode, payload


def _frame(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """The first frame and what follows it; None if it is not all there."""
    if len(buffer) < 2:
        return None
    size, start = buffer[1] & 0x7F, 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        size, start = int.from_bytes(buffer[2 : 2 + wide]), 2 + wide
    if len(buffer) < start + size:
        return None
    return buffer[0] & 0x0F, buffer[start : start + size], buffer[start + size :]
