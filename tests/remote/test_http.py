"""What only reads is asked again if its connection was cut; nothing else is."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from hardway.errors import Mistake
from hardway.remote.http import Client

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def cutting(*replies: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives each connection one reply, then closes it; and the methods that it was asked for."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for reply in replies:
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(4096).split()[0])
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join()


def client(retries: int = 1) -> Client:
    def dial(address: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((address, port), timeout)

    return Client(dial, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), retries=retries)


def test_a_question_whose_connection_was_cut_is_asked_again() -> None:
    with cutting(b"", ANSWER) as (url, asked), closing(client()) as one:
        assert one.request("GET", url, "/").status == 200

    assert asked == [b"GET", b"GET"]


def test_a_question_is_asked_twice_at_most() -> None:
    with cutting(b"", b"") as (url, _), closing(client()) as one, pytest.raises(Mistake, match=r"RemoteProtocolError|ReadError"):
        one.request("GET", url, "/")


@pytest.mark.parametrize(("method", "retries"), [("POST", 1), ("PATCH", 1), ("DELETE", 1), ("GET", 0)])
def test_what_changes_something_or_is_to_be_tried_once_is_not(method: str, retries: int) -> None:
    with cutting(b"") as (url, asked), closing(client(retries)) as one, pytest.raises(Mistake, match=r"RemoteProtocolError|ReadError"):
        one.request(method, url, "/", body=None if method == "GET" else {})

    assert asked == [method.encode()]
