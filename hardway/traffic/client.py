"""A client of the API as RFC 9110 wants it: what may be asked again is asked once more, and each time is written down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hardway.errors import Mistake
from hardway.traffic.identity import Identities, Identity
from hardway.traffic.ledger import Failure, Ledger
from hardway.traffic.wire import websocket
from hardway.traffic.wire.connection import Ask, Lost, Reached, Wire, connect
from hardway.traffic.wire.http1 import Http1
from hardway.traffic.wire.http2 import Http2
from hardway.waiting import until

PAUSE = 0.2  # seconds between two looks at what is waited for
WITHIN = 15.0  # seconds for one answer
LATER = 5.0  # seconds that a client waits where it is told to
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer."""

    status: int
    body: bytes
    instance: str
    replayed: bool = False
    later: float | None = None  # seconds after which the server wants to be asked again

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


Wrong = Callable[[Reply], str | None]  # what is wrong with an answer; None if nothing


def replayable(lost: Lost, *, idempotent: bool) -> bool:
    """Whether a request may be asked again by itself: it changes nothing twice, or the server says that it has not begun."""
    return lost.untouched or (idempotent and lost.cut and lost.reached in {Reached.HANDSHAKE, Reached.REQUEST})


def turned_away(reply: Reply) -> bool:
    """Whether a server has refused to begin, and says when it or another will: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3."""
    return reply.status in {429, 503} and reply.later is not None and reply.later <= LATER


def told(reply: Reply) -> str:
    """An answer in one line: its status and what it says of itself."""
    try:
        message = str(reply.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = reply.body.decode(errors="replace")
    return f"status {reply.status}: {' '.join(message.split())[:200]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """How a cluster is reached."""

    identities: Identities
    hosts: tuple[str, ...] = ()  # names of the machines that have API servers, where they are known

    def open(self, protocol: str) -> tuple[Wire, Identity]:
        """A new connection, by the newest identity."""
        identity = self.identities.now()
        sock, certificate = connect(identity.address, identity.contexts[protocol], identity.name)
        instance = instance_of(certificate, self.hosts)
        if protocol == "http/1.1":
            return Http1(sock, identity.host, instance), identity
        if sock.selected_alpn_protocol() != "h2":
            sock.close()
            raise Lost(Reached.HANDSHAKE, "the server does not speak HTTP/2", instance=instance, cut=False)
        return Http2(sock, identity.host, instance), identity


def instance_of(certificate: Mapping[str, Any], hosts: tuple[str, ...]) -> str:
    """Which API server shows a certificate: the host that it names, else its serial number, for a renewed one has another."""
    names = {value for _, value in certificate.get("subjectAltName", ())}
    return next((host for host in hosts if host in names), f"serial {certificate.get('serialNumber', 'unknown').lower()}")


class Client:
    """One client, used by one thread: keeps its connection between requests, or opens one for each."""

    def __init__(self, door: Door, ledger: Ledger, protocol: str = "http/1.1", *, kept: bool = True, replays: bool = True) -> None:
        self._door = door
        self._ledger = ledger
        self._protocol = protocol
        self._kept = kept
        self._replays = replays
        self._wire: Wire | None = None
        self._identity = 0
        self.name = f"{protocol} {'kept' if kept else 'new'}"

    def call(
        self,
        kind: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        wrong: Wrong | None = None,
        once: bool = False,
    ) -> Reply | None:
        """A request that counts; None if the client has nothing from it. `once`: sent twice it does what it does once, by any method."""
        repeats = once or method in IDEMPOTENT
        return self._counted(kind, method, partial(self._once, method, path, body), wrong or expecting(200), idempotent=repeats)

    def execute(self, kind: str, path: str, wrong: Wrong) -> Reply | None:
        """A command in a container, of which the path tells; it counts, and is never tried again: nobody knows what it has done."""
        return self._counted(kind, "EXEC", partial(self._command, path), wrong, idempotent=False)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """A request that does not count, tried once more if need be. Raises Lost."""
        try:
            return self._once(method, path, body)
        except Lost as lost:
            if not replayable(lost, idempotent=method in IDEMPOTENT):
                raise
        return self._once(method, path, body, replayed=True)

    @property
    def now(self) -> float:
        """By the clock of what is written down."""
        return self._ledger.clock()

    def close(self) -> None:
        if self._wire:
            self._wire.close()
            self._wire = None

    def _counted(self, kind: str, method: str, once: Callable[..., Reply], wrong: Wrong, *, idempotent: bool) -> Reply | None:
        began = self._ledger.clock()
        reply = self._answered(kind, method, once, idempotent=idempotent)
        why = wrong(reply) if reply else None
        if reply and why:
            self._fail(kind, method, reply.instance, why, visible=True)
        self._ledger.ended(self, kind, self.name, began=began, answered=reply is not None and not why)
        return None if why else reply

    def _answered(self, kind: str, method: str, once: Callable[..., Reply], *, idempotent: bool) -> Reply | None:
        try:
            reply = once()
        except Lost as lost:
            again = self._replays and replayable(lost, idempotent=idempotent)
            self._fail(kind, method, lost.instance, str(lost), visible=not again, replayed=again)
            if not again:
                return None
        else:
            if not (self._replays and turned_away(reply)):
                return reply
            self._fail(kind, method, reply.instance, f"{told(reply)}; it wants to be asked again", visible=False, replayed=True)
            self.close()  # another connection may lead to another server
            time.sleep(reply.later or 0)
        try:
            return once(replayed=True)
        except Lost as lost:
            self._fail(kind, method, lost.instance, str(lost), visible=True)
        return None

    def _command(self, path: str, *, replayed: bool = False) -> Reply:
        """Over a connection of its own, which it takes over."""
        wire, identity = self._door.open("http/1.1")
        try:
            status, said = websocket.run(wire, identity.prefix + path, identity.headers, WITHIN)
        finally:
            wire.close()
        return Reply(status=status, body=said, instance=wire.instance, replayed=replayed)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None, *, replayed: bool = False) -> Reply:
        """One try, over the kept connection if there is one that can be used. What fails leaves none behind."""
        wire, identity = self._connected()
        headers = {"Accept": "application/json", **identity.headers, **({"Content-Type": "application/json"} if body is not None else {})}
        data = b"" if body is None else json.dumps(body).encode()
        try:
            head = wire.begin(Ask(method=method, path=identity.prefix + path, headers=headers, body=data), WITHIN)
            content = b"".join(wire.pieces(WITHIN))
        except BaseException:
            self.close()
            raise
        if not self._kept:
            self.close()
        return Reply(status=head.status, body=content, instance=wire.instance, replayed=replayed, later=head.later)

    def _connected(self) -> tuple[Wire, Identity]:
        """A change of identity happens here, between two requests: the old connection is idle now, so nothing is lost with it."""
        newest = self._door.identities.now()
        if self._wire and (self._identity != newest.number or not self._wire.usable()):
            self.close()
        if self._wire is None:
            self._wire, newest = self._door.open(self._protocol)
            self._identity = newest.number
        return self._wire, newest

    def _fail(self, kind: str, method: str, instance: str, cause: str, *, visible: bool, replayed: bool = False) -> None:
        failure = Failure(
            at=self._ledger.clock(),
            kind=kind,
            client=self.name,
            method=method,
            instance=instance,
            cause=cause,
            replayed=replayed,
            visible=visible,
        )
        self._ledger.failed(failure)


def expecting(*statuses: int, again: tuple[int, ...] = ()) -> Wrong:
    """An answer of one of these statuses; `again`: what is right too if the request was sent twice."""

    def wrong(reply: Reply) -> str | None:
        if reply.status in statuses or (reply.replayed and reply.status in again):
            return None
        return told(reply)

    return wrong


def patiently(what: str, ask: Callable[[], str | None], within: float) -> None:
    """Ask until nothing is left to be said; a Mistake with the last answer if it is not so in time."""

    def said() -> str | None:
        try:
            return ask()
        except Lost as lost:
            return str(lost)

    if why := until(said, within=within, pause=PAUSE):
        raise Mistake.at("traffic", f"{what}: {why}, after {within:.0f} s")
