"""One host, asked and changed by requests to host.sh over a channel."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath

from hardway.desired import Blob
from hardway.errors import Mistake
from hardway.observed import Asked, Observed
from hardway.remote import protocol
from hardway.remote.channel import Channel, Line, Wire
from hardway.remote.lock import HEARTBEAT, SILENCE, Held, hold, who
from hardway.remote.pause import Pause
from hardway.remote.protocol import Apply, Reply

PIECE = 1 << 20
HEARD = 1 << 14  # bytes of what is said before a host is ready, of which a part may be the reason why it is not
NO_TTY = "must have a tty"  # sudo's words, where sudoers says requiretty
NOTHING = Asked()

Witness = Callable[[str, Apply], AbstractContextManager[None]]  # entered by a host's name while it is changed


def no_password() -> str:
    """Where nobody can be asked for it."""
    raise Mistake.at("", "sudo wants a password, and nobody can be asked for it", "give the user passwordless sudo")


def unseen(host: str, change: Apply) -> AbstractContextManager[None]:  # noqa: ARG001 - a Witness
    """Nobody looks on."""
    return nullcontext()


@dataclass(slots=True, kw_only=True)
class Machine:
    """One host of the cluster: observes it, and changes it by whole requests."""

    name: str
    line: Line
    sudo: bool = False
    root: str = ""  # of the host's file system; another one only in tests
    shell: str = "sh"
    heartbeat: float = HEARTBEAT  # of its lock
    password: Callable[[], str] = no_password  # for sudo
    witness: Witness = unseen
    execs: int = field(default=0, init=False)
    bytes_sent: int = field(default=0, init=False)
    _held: Held | None = field(default=None, init=False)
    _tty: bool = field(default=False, init=False)  # sudo wants one

    @property
    def connects(self) -> int:
        """How many times the host was dialled."""
        return self.line.connects

    def observe(
        self, paths: frozenset[PurePosixPath], units: Sequence[str] = (), asked: Asked = NOTHING, *, verify: bool = False
    ) -> Observed:
        """What the host is and carries, by one exec that changes nothing; `verify` hashes also what is remembered."""
        _, reply = self._ask([protocol.observe(paths, units, asked, verify=verify)])
        return protocol.parse_observed(reply.checked(self.name), host=self.name, root=self.root, units=units)

    def store(self, blobs: Sequence[Blob], progress: Callable[[int], None] = lambda _: None) -> None:
        """Bring binaries into the host's content store, where nothing reads them yet."""

        def pieces() -> Iterable[bytes]:
            yield b"store\n"
            for blob in blobs:
                yield f"{blob.sha256} {blob.size}\n".encode()
                with blob.local.open("rb") as file:
                    while piece := file.read(PIECE):
                        yield piece
                        progress(len(piece))
            yield b"end\n"

        try:
            _, reply = self._ask(pieces())
        except OSError as error:
            raise Mistake.at(str(error.filename), error.strerror or str(error), "run ./inv binaries") from error
        reply.checked(self.name)

    def apply(self, change: Apply) -> None:
        """Change the host, all of it or nothing; an empty change finishes one that died after its commit.

        A Retreat if a unit that ran does not start with its new files.
        """
        if self._held:
            self._held.check()
        with self.witness(self.name, change):
            self._ask([protocol.apply(change)])[1].checked(self.name)

    @contextmanager
    def lock(self, doing: str) -> Iterator[Held]:
        """Keep other operators out for as long as the context and the connection last (10)."""
        _, channel = self._begin([protocol.lock(who(doing), silence=SILENCE)])
        with hold(self.name, channel, heartbeat=self.heartbeat) as held:
            self._held = held
            try:
                yield held
            finally:
                self._held = None

    def pause(self, unit: str) -> Pause:
        """A unit's main process can stand still from here on, within one word to the host."""
        return Pause(self._begin([protocol.pause(unit)])[1])

    def settle(self, units: Iterable[str], *, steady: int = 0) -> None:
        """Owe the restarts of these units no more: their gate has passed. A Retreat if one does not stay up for so many seconds."""
        self._ask([protocol.settle(units, steady=steady)])[1].checked(self.name)

    def retract(self, unit: str) -> None:
        """Take a unit whose gate stayed closed back to its files before: then a Retreat; a Mistake with its journal if none were kept."""
        self._ask([protocol.retract(unit)])[1].checked(self.name)

    def read(self, paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, str]:
        """The text of those files that are there; asked for secrets by nobody but `state.recover`."""
        return protocol.parse_read(self._ask([protocol.read(paths)])[1].checked(self.name))

    def run(self, *argv: str) -> str:
        """Standard output of a command; a Mistake with its standard error if it fails."""
        out, _ = self._ran(argv, *self._ask([protocol.run(argv)]))
        return out

    def stream(self, write: Callable[[bytes], object], *argv: str) -> str:
        """Give a command's output to `write`, piece by piece as it comes, whatever its size; what it says on standard error."""
        mark, held, over = b"", b"", False

        def take(nonce: str, piece: bytes) -> bytes:
            nonlocal mark, held, over
            if over:
                return piece
            mark = f"\nsaid {nonce} ".encode()
            held += piece
            found = held.find(mark)
            over = found >= 0
            cut = found if over else max(len(held) - len(mark) + 1, 0)  # a part of the mark may be the last that has come
            write(held[:cut])
            rest, held = held[cut:], held[cut:]
            return rest if over else b""

        _, said = self._ran(argv, *self._ask([protocol.run(argv)], take))
        return said

    def _ran(self, argv: Sequence[str], nonce: str, reply: Reply) -> tuple[str, str]:
        """Output and standard error of a command that has ended well."""
        if reply.status:
            reply.checked(self.name)
        out, code, said = protocol.parse_run(reply.body, nonce)
        if code:
            raise Mistake.at(self.name, f"`{argv[0]}` ended with {code}: {said or 'it said nothing'}")
        return out, said

    def dial(self, port: int, address: str = "127.0.0.1") -> Wire:
        """A TCP connection that starts on the host itself, so that its loopback is reached."""
        return self.line.dial(address, port)

    def close(self) -> None:
        """Hang up."""
        self.line.close()

    def _begin(self, request: Iterable[bytes]) -> tuple[str, Channel]:
        """Start host.sh with a request; nothing is sent before it is ready, and what was said before that is dropped."""
        nonce = secrets.token_hex(16)
        channel = self._opened(nonce)
        try:
            for piece in chain([protocol.SCRIPT], request):
                if not self._sent(channel, piece):
                    break  # it gave up while we were sending: its reply says why
        except BaseException:
            channel.close()
            raise
        return nonce, channel

    def _opened(self, nonce: str) -> Channel:
        """A shell that is ready for its script; on a terminal once sudo has said that it wants one."""
        command = protocol.command(nonce=nonce, root=self.root, shell=self.shell, sudo=self.sudo, tty=self._tty)
        channel = self.line.execute(command, tty=self._tty)
        self.execs += 1
        try:
            end = self._await(channel, nonce)
        except BaseException:
            channel.close()
            raise
        if not end:
            channel.ready()
            return channel
        channel.close()
        if self.sudo and not self._tty and NO_TTY in end:
            self._tty = True
            return self._opened(nonce)
        step = "give the user passwordless sudo, or run it where it can ask for the password" if self.sudo else ""
        raise Mistake.at(self.name, f"no shell for us: {end}", step)

    def _await(self, channel: Channel, nonce: str) -> str:
        """Why there is no shell, or nothing: then it says nothing more until it is asked. What start-up files say is dropped."""
        ready, prompt = protocol.ready(nonce), protocol.prompt(nonce).encode()
        heard, answered = b"", False
        while ready not in heard:
            piece = channel.receive()
            if not piece:
                code, said = channel.finish()
                return last_words(code, f"{heard.decode(errors='replace')}\n{said}")
            heard = (heard + piece)[-HEARD:]
            if prompt in heard:
                if answered:
                    return "sudo refuses that password"
                channel.send(f"{self._answer()}\n".encode())
                heard, answered = b"", True
        return ""

    def _answer(self) -> str:
        try:
            return self.password()
        except Mistake as mistake:
            raise Mistake(*(replace(finding, where=self.name) for finding in mistake.findings)) from mistake

    def _sent(self, channel: Channel, data: bytes) -> bool:
        try:
            channel.send(data)
        except OSError:
            return False
        self.bytes_sent += len(data)
        return True

    def _ask(self, request: Iterable[bytes], take: Callable[[str, bytes], bytes] = lambda _, piece: piece) -> tuple[str, Reply]:
        """The reply to a request; `take` may keep what is not for the reply."""
        nonce, channel = self._begin(request)
        try:
            pieces = []
            while piece := channel.receive():
                pieces.append(take(nonce, piece))
            code, said = channel.finish()
        finally:
            channel.close()
        body, found, status = b"".join(pieces).rpartition(f"end {nonce} ".encode())
        if not found:
            end = last_words(code, said)
            raise Mistake.at(self.name, f"the reply was cut short: {end}", "run it again: a change is whole or was not begun")
        return nonce, Reply(body=body, status=int(status), said=said)


def last_words(code: int, said: str) -> str:
    """How a command ended that did not say so itself."""
    lines = said.strip().splitlines()
    if lines:
        return lines[-1]
    return "the connection was lost" if code == -1 else f"its shell ended with {code}"
