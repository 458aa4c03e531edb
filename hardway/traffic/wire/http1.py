"""HTTP/1.1 over one connection."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator

import h11

from hardway.traffic.wire.connection import Ask, Head, Lost, Reached, receive, said, silent, waiting


class Http1:
    """Satisfies Wire."""

    def __init__(self, sock: ssl.SSLSocket, host: str, instance: str) -> None:
        self.instance = instance
        self._sock = sock
        self._host = host
        self._state = h11.Connection(h11.CLIENT)
        self._heard = False  # a byte of the answer

    def begin(self, ask: Ask, within: float) -> Head:
        headers = [("Host", self._host), *ask.headers.items()]
        if ask.body:
            headers.append(("Content-Length", str(len(ask.body))))
        self._heard = False
        data = self._state.send(h11.Request(method=ask.method, target=ask.path, headers=headers)) or b""
        data += (self._state.send(h11.Data(data=ask.body)) or b"") if ask.body else b""
        data += self._state.send(h11.EndOfMessage()) or b""
        try:
            self._sock.settimeout(within)
            self._sock.sendall(data)
        except OSError as error:
            raise self._lost(said(error), cut=not silent(error)) from error
        deadline = time.monotonic() + within
        while not isinstance(event := self._next(deadline), h11.Response):
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                return Head(status=101)
        return Head.of(event.status_code, event.headers)

    def pieces(self, within: float, tick: float | None = None) -> Iterator[bytes]:
        deadline = time.monotonic() + within
        while True:
            try:
                event = self._next(min(deadline, time.monotonic() + tick) if tick else deadline)
            except Lost as lost:
                if tick and not lost.cut and time.monotonic() < deadline:
                    yield b""
                    continue
                raise
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
        if self._state.our_state is h11.DONE and self._state.their_state is h11.DONE:
            self._state.start_next_cycle()

    def frames(self, within: float) -> Iterator[bytes]:
        """After a switch to another protocol: what comes, as it comes."""
        yield self._state.trailing_data[0]
        deadline = time.monotonic() + within
        while True:
            try:
                data = receive(self._sock, deadline)
            except OSError as error:
                raise self._lost(said(error), cut=not silent(error)) from error
            if not data:
                raise self._lost("closed")
            yield data

    def usable(self) -> bool:
        return self._state.our_state is h11.IDLE and waiting(self._sock) is None

    def close(self) -> None:
        self._sock.close()

    def _next(self, deadline: float) -> h11.Event | type[h11.PAUSED]:
        try:
            while (event := self._state.next_event()) is h11.NEED_DATA:
                data = receive(self._sock, deadline)
                if not data and self._state.their_state is not h11.SEND_BODY:
                    raise self._lost("closed")
                self._heard = self._heard or bool(data)
                self._state.receive_data(data)
        except OSError as error:
            raise self._lost(said(error), cut=not silent(error)) from error
        except h11.RemoteProtocolError as error:
            raise self._lost("closed before the answer was whole" if self._state.trailing_data[1] else str(error)) from error
        if isinstance(event, h11.ConnectionClosed):
            raise self._lost("closed")
        return event  # type: ignore[return-value]  # NEED_DATA is asked for above

    def _lost(self, cause: str, *, cut: bool = True) -> Lost:
        return Lost(Reached.RESPONSE if self._heard else Reached.REQUEST, cause, instance=self.instance, cut=cut)
