"""What a Machine needs of the way to its host."""

from __future__ import annotations

from typing import Protocol


class Channel(Protocol):
    """A command that runs on a host, and its standard streams."""

    def send(self, data: bytes) -> None:
        """Write all of it; OSError once the command no longer reads."""
        ...

    def receive(self) -> bytes:
        """What comes next on standard output, and before `ready` on standard error too; empty at its end."""
        ...

    def ready(self) -> None:
        """From here on standard error is told apart."""
        ...

    def finish(self) -> tuple[int, str]:
        """Exit code and standard error, after the end of standard output."""
        ...

    def close(self) -> None: ...


def first_line(channel: Channel) -> str:
    """What a command says first; as much as there was of it, if that is where it ended."""
    heard = b""
    while b"\n" not in heard and (piece := channel.receive()):
        heard += piece
    return heard.split(b"\n")[0].decode(errors="replace")


class Wire(Protocol):
    """What of a socket a forwarded connection has; `tunnel` makes a socket of it."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Line(Protocol):
    """A way to a host, dialled at the first use and kept."""

    @property
    def connects(self) -> int: ...

    def execute(self, command: str, *, tty: bool = False) -> Channel: ...

    def dial(self, address: str, port: int) -> Wire:
        """A TCP connection from the host to somewhere."""
        ...

    def close(self) -> None: ...
