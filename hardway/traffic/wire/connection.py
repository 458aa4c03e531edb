"""One connection to an API server: opened, asked, and what it says of a loss."""

from __future__ import annotations

import enum
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

CONNECT = 5.0  # seconds
PIECE = 1 << 16


class Reached(enum.StrEnum):
    """How far a request had come when its connection was lost."""

    CONNECT = "connect"  # nobody took it
    HANDSHAKE = "handshake"  # TLS did not come about
    REQUEST = "request"  # sent, or partly, and not a byte came back
    RESPONSE = "response"  # the answer had begun


class Lost(Exception):  # noqa: N818 - what is measured; the program has not failed
    """A request without an answer."""

    def __init__(self, reached: Reached, cause: str, *, instance: str = "", cut: bool = True, untouched: bool = False) -> None:
        """`cut`: the connection was lost, not refused, distrusted or silent. `untouched`: the server says that it has done nothing."""
        super().__init__(f"{reached}: {cause}")
        self.reached = reached
        self.cause = cause
        self.instance = instance
        self.cut = cut
        self.untouched = untouched


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How an answer begins."""

    status: int
    later: float | None = None  # seconds after which the server wants to be asked again

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Self:
        """Of header names in lower case."""
        later = dict(headers).get(b"retry-after", b"")
        return cls(status=status, later=float(later) if later.isdigit() else None)


class Wire(Protocol):
    """A connection that carries one request after the other."""

    instance: str  # which API server is at its other end

    def begin(self, ask: Ask, within: float) -> Head:
        """Send a request; the answer that begins within so many seconds. Raises Lost."""
        ...

    def pieces(self, within: float, tick: float | None = None) -> Iterator[bytes]:
        """The answer's body as it comes; with a tick also nothing, each time that nothing has come for so long."""
        ...

    def usable(self) -> bool:
        """Whether another request may be sent; what the server has said meanwhile is heard."""
        ...

    def close(self) -> None: ...


def connect(address: tuple[str, int], context: ssl.SSLContext, name: str) -> tuple[ssl.SSLSocket, Mapping[str, Any]]:
    """A TLS connection, and the certificate that was shown on it."""
    try:
        plain = socket.create_connection(address, timeout=CONNECT, all_errors=True)
    except (OSError, ExceptionGroup) as failed:
        # A group has one error for each address of the name.
        several = [error for error in getattr(failed, "exceptions", (failed,)) if isinstance(error, OSError)]
        taken = [error for error in several if isinstance(error, ConnectionResetError | BrokenPipeError)]  # and let go before we looked
        reached = Reached.HANDSHAKE if taken else Reached.CONNECT
        raise Lost(reached, said((taken or several)[-1]), cut=bool(taken)) from failed
    end = plain
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = secure = context.wrap_socket(plain, server_hostname=name)  # of one that was reset by now, without a handshake and an error
        return secure, secure.getpeercert() or {}
    except OSError as error:
        end.close()
        refused = isinstance(error, ssl.SSLCertVerificationError | TimeoutError)
        raise Lost(Reached.HANDSHAKE, said(error), cut=not refused) from error


def receive(sock: ssl.SSLSocket, deadline: float) -> bytes:
    """What comes next; nothing at the end. Raises OSError."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    sock.settimeout(left)
    return sock.recv(PIECE)


def waiting(sock: ssl.SSLSocket) -> bytes | None:
    """What an idle connection has to say, without waiting for it: None if nothing; nothing, if it was closed."""
    sock.settimeout(0)
    try:
        return sock.recv(PIECE)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except OSError:
        return b""


def silent(error: OSError) -> bool:
    """Whether it is only that time was over."""
    return isinstance(error, TimeoutError)


def said(error: OSError) -> str:
    """What happened, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "closed"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower()
