"""Questions over HTTPS: TLS is done here, the connection comes from whoever can reach the host (14)."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpcore2

from hardway.desired import Answer
from hardway.errors import Mistake

Dial = Callable[[str, int, float], socket.socket]  # address, port, seconds -> a connected socket; raises OSError

CONNECT = 5.0  # seconds
READ = 30.0
CUT = (httpcore2.RemoteProtocolError, httpcore2.ReadError, httpcore2.WriteError)  # by a server or a balancer that has gone


class Stream(httpcore2.NetworkStream):
    """A connected socket as httpcore wants it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore2.ReadTimeout(f"no answer within {timeout:g} s") from error
        except OSError as error:
            raise httpcore2.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(buffer)
        except OSError as error:
            raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None) -> Stream:
        self._socket.settimeout(timeout)
        try:
            return Stream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname))
        except OSError as error:
            self._socket.close()
            raise httpcore2.ConnectError(str(error)) from error

    def get_extra_info(self, info: str) -> Any:
        """What httpcore and we ask a connection: its TLS object, and whether the other end has closed it."""
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "is_readable":  # an idle connection that has something to read was closed
            self._socket.settimeout(0)
            try:
                self._socket.recv(1)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except OSError:
                return True
            return True
        return None


class Backend(httpcore2.NetworkBackend):
    """Opens connections with a dialler."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - the interface of httpcore
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - the same
    ) -> Stream:
        try:
            return Stream(self._dial(host, port, timeout or CONNECT))
        except OSError as error:
            raise httpcore2.ConnectError(error.strerror or str(error)) from error


@dataclass(frozen=True, slots=True)
class Client:
    """One identity towards one kind of server; keeps its connections, may be used by several threads."""

    dial: Dial
    context: ssl.SSLContext
    server_name: str | None = None  # asked for by SNI and verified, instead of the address
    retries: int = 1  # of a connection that does not come about; if 0, also nothing else is tried twice
    pool: httpcore2.ConnectionPool = field(init=False)

    def __post_init__(self) -> None:
        pool = httpcore2.ConnectionPool(
            ssl_context=self.context, network_backend=Backend(self.dial), max_connections=64, keepalive_expiry=30, retries=self.retries
        )
        object.__setattr__(self, "pool", pool)

    def request(
        self,
        method: str,
        base: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[bytes | str, bytes | str] | None = None,
    ) -> Answer:
        """The server's answer, whatever its status; a Mistake if there is none."""
        extensions: dict[str, Any] = {"timeout": {"connect": CONNECT, "read": READ, "write": READ, "pool": READ}}
        if self.server_name:
            extensions["sni_hostname"] = self.server_name
        sent: dict[bytes | str, bytes | str] = {
            "Accept": "application/json, */*;q=0.5",
            "Host": base.partition("://")[2],
            **(headers or {}),
        }
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/merge-patch+json" if method == "PATCH" else "application/json")
        ask = partial(self._ask, method, base, path, headers=sent, content=data, extensions=extensions)
        try:
            try:
                return ask()
            except CUT:
                # What only reads may be asked again: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
                if method != "GET" or not self.retries:
                    raise
                return ask()
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
            raise Mistake.at(base, f"{type(error).__name__}: {error}".rstrip(": ")) from error

    def _ask(self, method: str, base: str, path: str, **fields: Any) -> Answer:
        with self.pool.stream(method, f"{base}{path}", **fields) as response:
            stream = response.extensions.get("network_stream")
            tls = stream.get_extra_info("ssl_object") if stream else None
            shown = serial(tls) if tls else 0  # now: after the answer a server that stops has closed the connection
            content = response.read()
        said = {name.decode().lower(): value.decode() for name, value in response.headers}
        return Answer(
            status=response.status,
            body=content,
            serial=shown,
            date=parsedate_to_datetime(said["date"]).timestamp() if "date" in said else 0.0,
        )

    def close(self) -> None:
        self.pool.close()


def serial(tls: ssl.SSLSocket) -> int:
    """The serial number of the certificate that the other end has shown."""
    shown = tls.getpeercert()
    return int(str(shown["serialNumber"]), 16) if shown else 0
