"""A channel as a socket: bytes go both ways, an end on one side ends the other, a lost connection is no traceback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hardway.remote.tunnel import tunnel


class LostChannel:
    """A channel whose connection is gone, as Paramiko shows it."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def recv(self, _size: int, /) -> bytes:
        return b""

    def sendall(self, _data: bytes, /) -> None:
        raise EOFError

    def shutdown(self, _how: int, /) -> None:
        raise EOFError

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    channel, server = socket.socketpair()
    with server, tunnel(channel) as near:
        near.settimeout(10)
        server.settimeout(10)
        yield near, server


def test_bytes_go_both_ways(pair: tuple[socket.socket, socket.socket]) -> None:
    near, server = pair
    near.sendall(b"question")
    assert server.recv(64) == b"question"
    server.sendall(b"answer")
    assert near.recv(64) == b"answer"


def test_the_servers_end_is_seen_here_and_ours_there(pair: tuple[socket.socket, socket.socket]) -> None:
    near, server = pair
    near.shutdown(socket.SHUT_WR)
    assert server.recv(64) == b""
    server.sendall(b"last words")
    server.shutdown(socket.SHUT_WR)
    assert near.recv(64) == b"last words"
    assert near.recv(64) == b""


def test_a_lost_connection_ends_the_socket_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    channel = LostChannel()
    with tunnel(channel) as near:
        near.settimeout(10)
        assert near.recv(64) == b""

    assert channel.closed.wait(10)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
