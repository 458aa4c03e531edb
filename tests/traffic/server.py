"""An API server over real TLS, by HTTP/1.1 and HTTP/2: it keeps ConfigMaps, lets them be watched, and does wrong when it is told to."""

from __future__ import annotations

import base64
import json
import queue
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import h11
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from hardway.pki.pair import Pair, leaf, root
from hardway.pki.request import Request

NOW = datetime.now(UTC)


def authority(name: str) -> Pair:
    return root(name, keys="ec", days=1, now=NOW)


def pair(signer: Pair, name: str, usage: str, *names: str) -> bytes:
    asked = Request(authority="a", certificate="c", common_name=name, names=names, usages=(usage,))  # type: ignore[arg-type]
    return leaf(asked, signer, now=NOW, lifetime=timedelta(hours=1)).pem


@dataclass
class Store:
    """What several API servers share."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: int = 100
    history: list[dict[str, Any]] = field(default_factory=list)
    watchers: list[queue.Queue[dict[str, Any]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    spoil: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda event: [event]  # what becomes of an event

    def put(self, path: str, body: dict[str, Any], kind: str) -> dict[str, Any]:
        with self.lock:
            self.version += 1
            body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version), "uid": "u"}}
            self.objects[path] = body
            for event in self.spoil({"type": kind, "object": body}):
                self.history.append(event)
                for watcher in self.watchers:
                    watcher.put(event)
            return body


@dataclass
class ApiServer:
    """One instance. `troubles` are taken one by one: (method, what) for the next request of that method."""

    signer: Pair
    store: Store = field(default_factory=Store)
    name: str = "controller-1"
    port: int = 0
    troubles: deque[tuple[str, str]] = field(default_factory=deque)
    asked: list[tuple[str, str]] = field(default_factory=list)  # method, and as whom
    served: int = 0  # connections

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.trust(self.signer)
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def trust(self, *signers: Pair) -> None:
        """Show a certificate of the first; take clients of all of them."""
        path = f"/proc/self/fd/{_memory(pair(signers[0], 'kube-apiserver', 'server', 'localhost', self.name))}"
        self._context.load_cert_chain(path)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(cadata="".join(one.certificate_pem.decode() for one in signers))

    def kill(self) -> None:
        """As SIGKILL does: the port is closed, and every connection reset."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for one in list(self._open):
            _reset(one)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        self.served += 1
        sock: socket.socket = plain
        self._open.add(sock)
        try:
            if self._trouble("CONNECT"):
                _reset(plain)
                return
            secure = self._context.wrap_socket(plain, server_side=True)
            sock = secure
            self._open = (self._open - {plain}) | {sock}
            subject: Any = (secure.getpeercert() or {})["subject"]
            who = dict(part[0] for part in subject)["commonName"]
            (self._http2 if secure.selected_alpn_protocol() == "h2" else self._http1)(secure, who)
        except (OSError, h11.RemoteProtocolError):  # its client is gone
            pass
        finally:
            self._open.discard(sock)
            sock.close()

    def _trouble(self, method: str) -> str:
        if self.troubles and self.troubles[0][0] == method:
            return self.troubles.popleft()[1]
        return ""

    def _http1(self, sock: ssl.SSLSocket, who: str) -> None:  # noqa: C901 - each way to do wrong
        state = h11.Connection(h11.SERVER)
        while True:
            request, body = None, b""
            while not isinstance(event := state.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    state.receive_data(sock.recv(65536))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return
            assert request
            method, path = request.method.decode(), request.target.decode()
            self.asked.append((method, who))
            trouble = self._trouble(method)
            if trouble.startswith("done"):  # it does what is asked, and ends before it can say so, or says that it has failed
                self.answer(method, path, body)
            if trouble in {"cut", "reset", "done"}:
                self._cut(sock, trouble)
                return
            if trouble == "silence":
                time.sleep(0.5)
            later = [("Retry-After", "0")] if trouble.endswith("later") else []
            status, document, events = self.answer(method, path, body, trouble.removeprefix("done").removesuffix("later"))
            data = b"" if events else json.dumps(document).encode()
            length = ("Transfer-Encoding", "chunked") if events else ("Content-Length", str(len(data)))
            sock.sendall(
                state.send(h11.Response(status_code=status, headers=[length, ("Content-Type", "application/json"), *later])) or b""
            )
            if trouble == "half":
                sock.sendall(data[: len(data) // 2])
                return
            for piece in events or ():
                sock.sendall(state.send(h11.Data(data=piece)) or b"")
            sock.sendall((state.send(h11.Data(data=data)) or b"") + (state.send(h11.EndOfMessage()) or b""))
            if trouble == "close":
                return
            state.start_next_cycle()

    def _http2(self, sock: ssl.SSLSocket, who: str) -> None:  # noqa: C901 - the same
        state = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        state.initiate_connection()
        sock.sendall(state.data_to_send())
        bodies: dict[int, bytes] = {}
        requests: dict[int, tuple[str, str]] = {}
        while data := sock.recv(65536):
            for event in state.receive_data(data):
                if isinstance(event, RequestReceived):
                    headers = dict(event.headers or ())
                    requests[event.stream_id], bodies[event.stream_id] = (headers[b":method"].decode(), headers[b":path"].decode()), b""
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] += event.data
                elif isinstance(event, StreamEnded):
                    method, path = requests[event.stream_id]
                    self.asked.append((method, who))
                    trouble = self._trouble(method)
                    if trouble in {"cut", "reset"}:
                        self._cut(sock, trouble)
                        return
                    if trouble == "refused":
                        state.reset_stream(event.stream_id, 7)
                        sock.sendall(state.data_to_send())
                        continue
                    if trouble == "goaway":  # begun by nobody: the last stream that counts is the one before
                        sock.sendall(_goaway(max(event.stream_id - 2, 0)))
                        _leave(sock)
                        return
                    if trouble == "drain":  # it goes, and answers what has come
                        sock.sendall(state.data_to_send() + _goaway(event.stream_id))
                    later = [(b"retry-after", b"0")] if trouble.endswith("later") else []
                    answer = self.answer(method, path, bodies[event.stream_id], trouble.removesuffix("later"))
                    self._answer2(sock, state, event.stream_id, answer, later)
                    if trouble == "drain":
                        _leave(sock)
                        return
            sock.sendall(state.data_to_send())

    def _answer2(
        self,
        sock: ssl.SSLSocket,
        state: H2Connection,
        stream: int,
        answer: tuple[int, Any, Iterator[bytes] | None],
        later: list[tuple[bytes, bytes]],
    ) -> None:
        status, document, events = answer
        state.send_headers(stream, [(b":status", str(status).encode()), (b"content-type", b"application/json"), *later])
        sock.sendall(state.data_to_send())
        for event in events or ():
            state.send_data(stream, event)
            sock.sendall(state.data_to_send())
        state.send_data(stream, b"" if events else json.dumps(document).encode(), end_stream=True)
        sock.sendall(state.data_to_send())

    def _cut(self, sock: ssl.SSLSocket, how: str) -> None:
        if how == "reset":
            _reset(sock)

    def answer(self, method: str, path: str, body: bytes, trouble: str = "") -> tuple[int, Any, Iterator[bytes] | None]:  # noqa: PLR0911 - the same
        place, _, text = path.partition("?")
        query = parse_qs(text)
        if trouble.isdecimal():
            return int(trouble), {"message": "as it was told"}, None
        if "watch" in query:
            return 200, None, self._events(int(query["resourceVersion"][0]), float(query["timeoutSeconds"][0]), trouble)
        store = self.store
        if method == "GET":
            if place.endswith("/configmaps"):
                return 200, {"metadata": {"resourceVersion": str(store.version)}, "items": []}, None
            found = store.objects.get(place)
            return (200, found, None) if found else (404, {"message": "not found"}, None)
        if method == "DELETE":
            gone = store.objects.pop(place, None)
            return (200 if gone else 404), {}, None
        document = json.loads(body)
        if method == "POST":
            if f"{place}/{document['metadata']['name']}" in store.objects:
                return 409, {"message": "already exists"}, None
            if "dryRun" in query:
                return 201, document, None
            return 201, store.put(f"{place}/{document['metadata']['name']}", document, "ADDED"), None
        return 200, store.put(place, document, "MODIFIED"), None

    def _events(self, since: int, within: float, trouble: str) -> Iterator[bytes]:
        mine: queue.Queue[dict[str, Any]] = queue.Queue()
        with self.store.lock:
            for event in self.store.history:
                if int(event["object"].get("metadata", {}).get("resourceVersion", 0)) > since:
                    mine.put(event)
            self.store.watchers.append(mine)
        deadline = time.monotonic() + (0.1 if trouble == "short" else within)
        try:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    yield json.dumps(mine.get(timeout=min(left, 0.05))).encode() + b"\n"
                except queue.Empty:
                    if trouble == "break":
                        raise OSError("broken") from None
        finally:
            with self.store.lock:
                self.store.watchers.remove(mine)


def kubeconfig(path: Path, port: int, trusted: bytes, client: bytes) -> Path:
    """As an operator has it, whole in one file; renamed into place, as every writer should."""
    encoded = base64.b64encode(client).decode()
    document: Mapping[str, Any] = {
        "clusters": [
            {
                "name": "test",
                "cluster": {
                    "server": f"https://localhost:{port}",
                    "certificate-authority-data": base64.b64encode(trusted).decode(),
                },
            }
        ],
        "users": [{"name": "me", "user": {"client-certificate-data": encoded, "client-key-data": encoded}}],
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document))
    return new.replace(path)


def _memory(data: bytes) -> int:
    import os  # noqa: PLC0415

    descriptor = os.memfd_create("pair")
    os.write(descriptor, data)
    return descriptor


def _goaway(last: int) -> bytes:
    return bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + last.to_bytes(4) + bytes(4)


def _leave(sock: socket.socket) -> None:
    """Close when the other end has: else the kernel resets what was not read, and takes the last words with it."""
    socket.socket.shutdown(sock, socket.SHUT_WR)
    while socket.socket.recv(sock, 65536):
        pass


def _reset(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    socket.socket.close(sock)
