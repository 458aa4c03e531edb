"""A line to a host over SSH: Fabric connects, over jump hosts if need be; the channels are Paramiko's."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import paramiko
from fabric import Config, Connection
from paramiko.config import SSHConfig

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote.ssh import hostkeys
from hardway.remote.ssh.keys import Ask, SignIn, nobody
from hardway.remote.ssh.refusal import FINAL, PASSING, UnknownKeyError, refusal, told
from hardway.remote.ssh.way import Way, way

# In the order of their speed with Paramiko; the rest of its list follows.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr")
KEX = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
PACKET = (1 << 15) - 64  # the most that one packet to OpenSSH holds
PATIENCE = 30  # seconds until a silent peer counts as lost

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else a refused port is told on standard error, beside our own words


def line(
    host: Host, *, identity: Path | None, known_hosts: Path, timeout: float = 10, ask: Ask = nobody, config: Path | None = None
) -> SshLine:
    """A line to a host; nothing is dialled yet. An identity is the only key that is tried; `config` is read instead of ~/.ssh/config."""

    def find() -> Way:
        return way(host, identity=identity, known_hosts=known_hosts, config=config)

    return SshLine(host=host, find=find, timeout=timeout, ask=ask)


@dataclass(slots=True, kw_only=True)
class SshChannel:
    """A command on a host."""

    channel: paramiko.Channel

    def send(self, data: bytes) -> None:
        """Write all of it; Paramiko's own sendall copies what is left after each packet."""
        left = memoryview(data)
        while left:
            try:
                sent = self.channel.send(bytes(left[:PACKET]))
            except EOFError as error:  # Paramiko's word for a connection that went at that moment
                raise ConnectionResetError("the connection was lost") from error
            if not sent:
                raise ConnectionResetError("the channel is closed")
            left = left[sent:]

    def receive(self) -> bytes:
        """What comes next on standard output; before `ready` also what comes on standard error."""
        return bytes(self.channel.recv(1 << 16))

    def ready(self) -> None:
        """From here on standard error is told apart."""
        self.channel.set_combine_stderr(False)

    def finish(self) -> tuple[int, str]:
        """Exit code and standard error; -1 if the connection was lost."""
        said = b""
        while piece := self.channel.recv_stderr(1 << 16):
            said += piece
        return self.channel.recv_exit_status(), said.decode(errors="replace")

    def close(self) -> None:
        """End it: the command reads the end of its input."""
        self.channel.close()


@dataclass(slots=True, kw_only=True)
class SshLine:
    """One connection, dialled at the first use, that all threads share."""

    host: Host
    find: Callable[[], Way]
    timeout: float
    ask: Ask
    connects: int = field(default=0, init=False)
    _connection: Any = field(default=None, init=False)
    _dialling: threading.Lock = field(default_factory=threading.Lock, init=False)
    _refused: Mistake | None = field(default=None, init=False)  # what a second attempt would not change, but be counted as

    def execute(self, command: str, *, tty: bool = False) -> SshChannel:
        """Start a command, on a terminal if it wants one."""
        try:
            channel = self._transport().open_session(timeout=self.timeout)
            channel.set_combine_stderr(True)
            if tty:
                channel.get_pty()
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._mistake(f"the connection broke: {told(error)}", "run it again") from error
        return SshChannel(channel=channel)

    def dial(self, address: str, port: int) -> paramiko.Channel:
        """A TCP connection from the host to somewhere."""
        try:
            return self._transport().open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=self.timeout)
        except paramiko.ChannelException as error:
            raise ConnectionRefusedError(f"{self.host.name}: {address}:{port}: {error.text}") from error
        except (paramiko.SSHException, EOFError) as error:
            raise ConnectionError(f"{self.host.name}: {address}:{port}: {told(error)}") from error

    def shown_key(self) -> tuple[paramiko.PKey, Way]:
        """The host key that the host shows, known or not, and the way there; nobody signs in to it. The keys of jump hosts are checked."""
        to = self.find()
        gateway = self._through(to)
        try:
            with closing(transport(self._prepared(to, gateway).open_gateway() if gateway else self._socket(to))) as dialled:
                dialled.start_client(timeout=self.timeout)
                return dialled.get_remote_server_key(), to
        except PASSING as error:
            raise refusal(self.host.name, to, error, hop=False) from error
        finally:
            hang_up(gateway)

    def close(self) -> None:
        """Hang up."""
        with self._dialling:
            connection, self._connection = self._connection, None
            hang_up(connection)

    def _transport(self) -> paramiko.Transport:
        with self._dialling:
            if self._refused:
                raise self._refused
            if self._connection is None or not self._connection.is_connected:
                hang_up(self._connection)
                self._connection = None
                to = self.find()
                self._connection = self._connected(to, self._through(to), hop=False)
                self.connects += 1
            return self._connection.transport

    def _through(self, to: Way) -> Connection | None:
        """The last of the jump hosts, each reached over the one before it."""
        gateway = None
        for hop in to.via:
            gateway = self._connected(hop, gateway, hop=True)
        return gateway

    def _connected(self, to: Way, gateway: Connection | None, *, hop: bool) -> Connection:
        connection = self._prepared(to, gateway)
        try:
            if not gateway:
                connection.connect_kwargs["sock"] = self._socket(to)
            connection.open()
        except (*FINAL, *PASSING) as error:
            hang_up(connection)
            mistake = refusal(self.host.name, to, error, hop=hop)
            self._refused = mistake if isinstance(error, FINAL) else None
            raise mistake from error
        return connection

    def _prepared(self, to: Way, gateway: Connection | None) -> Connection:
        """What Fabric connects, by no configuration but ours, and with the check of host keys that it leaves out."""
        connection = Connection(to.address, user=to.user, port=to.port, gateway=gateway, config=Config(lazy=True, ssh_config=SSHConfig()))
        connection.connect_kwargs = {
            "banner_timeout": self.timeout,
            "auth_timeout": self.timeout,
            "auth_strategy": SignIn(to, self.ask),
            "transport_factory": transport,
        }
        connection.client.set_missing_host_key_policy(Refuse())
        for kind, key in hostkeys.recorded(to).items():
            connection.client.get_host_keys().add(to.known_as, kind, key)
        return connection

    def _socket(self, to: Way) -> Any:
        return Piped.start(to.command) if to.command else socket.create_connection((to.address, to.port), timeout=self.timeout)

    def _mistake(self, what: str, next_step: str) -> Mistake:
        return Mistake.at(self.host.name, what, next_step)


def hang_up(connection: Connection | None) -> None:
    """Close a connection, and those that it goes over."""
    while isinstance(connection, Connection):
        connection.client.close()  # also one that has not come about
        connection = connection.gateway


@dataclass(frozen=True, slots=True)
class Refuse:
    """Paramiko's policy for a host whose key is unknown: no."""

    def missing_host_key(self, _client: paramiko.SSHClient, _name: str, key: paramiko.PKey) -> NoReturn:
        """Stop."""
        raise UnknownKeyError(key)


@dataclass(frozen=True, slots=True)
class Piped:
    """The standard streams of a command as a socket, as ProxyCommand has it."""

    sock: socket.socket
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, command: str) -> Piped:
        near, far = socket.socketpair()
        with far:
            # S602: the operator's own words, out of his ~/.ssh/config, which OpenSSH gives to a shell too
            process = subprocess.Popen(f"exec {command}", shell=True, stdin=far.fileno(), stdout=far.fileno())  # noqa: S602
        return cls(near, process)

    def close(self) -> None:
        """Let the command read the end of its input."""
        self.sock.close()
        self.process.terminate()
        self.process.wait()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A TCP socket that acknowledges at once: sshd holds small packets back until then, which costs 40 ms (tcp(7), TCP_QUICKACK)."""

    sock: socket.socket

    def recv(self, size: int) -> bytes:
        """What comes next; the kernel forgets the option, so it is set each time."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return self.sock.recv(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


def transport(sock: Any, **options: Any) -> paramiko.Transport:
    """Paramiko's transport with the fast algorithms first, and a lost peer noticed."""
    tcp = isinstance(sock, socket.socket)  # not what leads over a jump host, or over a command
    made = paramiko.Transport(Prompt(sock) if tcp else sock, **options)
    known = made.get_security_options()
    known.ciphers = first(CIPHERS, known.ciphers)
    known.kex = first(KEX, known.kex)
    if tcp:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a request ends in a small packet
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PATIENCE * 1000)  # with the keepalive: a lost peer ends every wait
    made.set_keepalive(PATIENCE // 3)
    return made


def first(wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """What is known, with what is wanted before the rest."""
    return tuple(name for name in wanted if name in known) + tuple(name for name in known if name not in wanted)
