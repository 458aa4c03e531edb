"""HTTP/2 over one connection, one request after the other."""

from __future__ import annotations

import ssl
import struct
import time
from collections.abc import Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from hardway.traffic.wire.connection import Ask, Head, Lost, Reached, receive, said, silent, waiting

HEADER = 9  # bytes before a frame's payload: https://www.rfc-editor.org/rfc/rfc9113#section-4.1
GOAWAY = 7  # type of a frame
ROOM = 1 << 24  # bytes that the server may send unasked


class Http2:
    """Satisfies Wire."""

    def __init__(self, sock: ssl.SSLSocket, host: str, instance: str) -> None:
        self.instance = instance
        self._sock = sock
        self._host = host
        self._state = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._buffer = b""
        self._stream = 0
        self._heard = False  # the answer's header
        self._data: list[bytes] = []
        self._ended = False
        self._last: int | None = None  # the last stream that the server takes care of; it has said goodbye
        self._state.initiate_connection()
        self._state.increment_flow_control_window(ROOM)

    def begin(self, ask: Ask, within: float) -> Head:
        self._heard, self._ended, self._data = False, False, []
        self._stream = self._state.get_next_available_stream_id()
        pseudo = ((":method", ask.method), (":scheme", "https"), (":authority", self._host), (":path", ask.path))
        plain = [(name.lower(), value) for name, value in ask.headers.items()]
        self._state.send_headers(self._stream, [*pseudo, *plain], end_stream=not ask.body)
        if ask.body:
            self._state.send_data(self._stream, ask.body, end_stream=True)
        self._state.increment_flow_control_window(ROOM, self._stream)
        deadline = time.monotonic() + within
        while True:
            for event in self._hear(deadline):
                if isinstance(event, ResponseReceived):
                    headers = event.headers or []
                    return Head.of(int(dict(headers)[b":status"]), headers)

    def pieces(self, within: float, tick: float | None = None) -> Iterator[bytes]:
        deadline = time.monotonic() + within
        while True:
            yield from self._data
            self._data = []
            if self._ended:
                return
            try:
                self._hear(min(deadline, time.monotonic() + tick) if tick else deadline)
            except Lost as lost:
                if not (tick and not lost.cut and time.monotonic() < deadline):
                    raise
                yield b""

    def usable(self) -> bool:
        while (data := waiting(self._sock)) is not None:
            if not data:
                return False
            try:
                self._take(data)
            except Lost:
                return False
        return self._last is None and self._ended

    def close(self) -> None:
        self._sock.close()

    def _hear(self, deadline: float) -> list[Event]:
        """Send what is to be sent, and take what comes next."""
        try:
            self._sock.settimeout(max(deadline - time.monotonic(), 0.01))
            self._sock.sendall(self._state.data_to_send())
            data = receive(self._sock, deadline)
        except OSError as error:
            raise self._lost(said(error), cut=not silent(error)) from error
        if not data:
            raise self._lost("closed")
        events = self._take(data)
        if self._last is not None and self._stream > self._last:
            raise self._lost("it goes away, and has not begun", untouched=True)
        return events

    def _take(self, data: bytes) -> list[Event]:
        """Frame by frame: after a GOAWAY h2 would refuse the answers that are still to come."""
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= HEADER:
            end = HEADER + int.from_bytes(self._buffer[:3])
            if len(self._buffer) < end:
                break
            frame, self._buffer = self._buffer[:end], self._buffer[end:]
            if frame[3] == GOAWAY:
                self._last = struct.unpack(">I", frame[HEADER : HEADER + 4])[0] & 0x7FFFFFFF
                continue
            try:
                events += self._state.receive_data(frame)
            except ProtocolError as error:
                raise self._lost(str(error)) from error
        for event in events:
            self._note(event)
        return events

    def _note(self, event: Event) -> None:
        if isinstance(event, ResponseReceived) and event.stream_id == self._stream:
            self._heard = True
        elif isinstance(event, DataReceived):
            self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id == self._stream:
                self._data.append(event.data)
        elif isinstance(event, StreamEnded) and event.stream_id == self._stream:
            self._ended = True
        elif isinstance(event, StreamReset) and event.stream_id == self._stream:
            untouched = event.error_code == ErrorCodes.REFUSED_STREAM
            raise self._lost(f"the stream was reset with {event.error_code}", untouched=untouched)

    def _lost(self, cause: str, *, cut: bool = True, untouched: bool = False) -> Lost:
        reached = Reached.RESPONSE if self._heard else Reached.REQUEST
        return Lost(reached, cause, instance=self.instance, cut=cut, untouched=untouched)
