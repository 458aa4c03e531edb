"""A connection that is cut before its handshake is one that was lost, at any moment."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any, cast

import pytest

from hardway.traffic.wire.connection import Lost, Reached, connect


class Reset:
    """What `wrap_socket` returns for a connection that was reset by then: it has shaken no hands, and raised nothing."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain

    def getpeercert(self) -> dict[str, Any]:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def close(self) -> None:
        self.plain.close()


class Context:
    def wrap_socket(self, plain: socket.socket, server_hostname: str) -> Reset:
        assert server_hostname == "localhost"
        self.reset = Reset(plain)
        return self.reset


def test_one_that_was_reset_before_its_handshake_is_lost_and_closed() -> None:
    context = Context()
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(Lost) as lost:
        connect(listener.getsockname(), cast("ssl.SSLContext", context), "localhost")

    assert (lost.value.reached, lost.value.cut) == (Reached.HANDSHAKE, True)
    assert context.reset.plain.fileno() == -1
