"""A line to a host over SSH: Fabric reads the configuration, signs in and jumps; the channels are Paramiko's."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import paramiko
from fabric import Connection

from hardway.errors import Mistake
from hardway.inventory import Host

# In the order of their speed with Paramiko; the rest of its list follows.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr")
KEX = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
PACKET = (1 << 15) - 64  # the most that one packet to OpenSSH holds
PATIENCE = 30  # seconds until a silent peer counts as lost

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else a refused port is told on standard error, beside our own words


def line(host: Host, *, identity: Path | None, known_hosts: Path, timeout: float = 10) -> SshLine:
    """A line to a host; nothing is dialled yet. An identity is the only key that is tried."""
    return SshLine(host=host, identity=identity or host.ssh.key, known_hosts=known_hosts, timeout=timeout)


@dataclass(slots=True, kw_only=True)
class SshChannel:
    """A command on a host."""

    channel: paramiko.Channel

    def send(self, data: bytes) -> None:
        """Write all of it; Paramiko's own sendall copies what is left after each packet."""
        left = memoryview(data)
        while left:
            sent = self.channel.send(bytes(left[:PACKET]))
            if not sent:
                raise ConnectionResetError("the channel is closed")
            left = left[sent:]

    def receive(self) -> bytes:
        """What comes next on standard output."""
        return bytes(self.channel.recv(1 << 16))

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
    identity: Path | None
    known_hosts: Path
    timeout: float
    connects: int = field(default=0, init=False)
    _connection: Any = field(default=None, init=False)
    _dialling: threading.Lock = field(default_factory=threading.Lock, init=False)

    def execute(self, command: str) -> SshChannel:
        """Start a command."""
        try:
            channel = self._transport().open_session(timeout=self.timeout)
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

    def shown_key(self) -> paramiko.PKey:
        """The host key that the host shows, whether it is known or not; nobody signs in. The keys of jump hosts are checked."""
        connection = self._prepared()
        address = (str(self.host.address), self.host.ssh.port)
        try:
            sock = connection.open_gateway() if connection.gateway else socket.create_connection(address, timeout=self.timeout)
            with closing(transport(sock)) as dialled:
                dialled.start_client(timeout=self.timeout)
                return dialled.get_remote_server_key()
        except (paramiko.SSHException, OSError, EOFError) as error:
            what = f"cannot be reached at {address[0]} port {address[1]}: {told(error)}"
            raise self._mistake(what, "is it up, and is this its address?") from error
        finally:
            if isinstance(connection.gateway, Connection):
                connection.gateway.close()

    def close(self) -> None:
        """Hang up."""
        with self._dialling:
            hop, self._connection = self._connection, None
            while isinstance(hop, Connection):
                hop.close()
                hop = hop.gateway

    def _transport(self) -> paramiko.Transport:
        with self._dialling:
            if self._connection is None or not self._connection.is_connected:
                self._connection = self._connect()
                self.connects += 1
            return self._connection.transport

    def _connect(self) -> Connection:
        connection = self._prepared()
        ssh, key = self.host.ssh, self.identity
        try:
            connection.open()
        except paramiko.BadHostKeyException as error:
            what = f"its host key has changed: it shows {error.key.fingerprint}, known is {error.expected_key.fingerprint}"
            raise self._mistake(what, "if that is right, run ./inv hosts.trust; if not, somebody is in between") from error
        except paramiko.PasswordRequiredException as error:
            raise self._mistake(f"the key {key or 'found'} has a passphrase", "add it to ssh-agent and name no key") from error
        except paramiko.AuthenticationException as error:
            what = f"user {ssh.user} may not sign in" + (f" with {key}" if key else "")
            raise self._mistake(what, "put the public key into its authorized_keys") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            what = f"cannot be reached at {self.host.address} port {ssh.port}: {told(error)}"
            raise self._mistake(what, "is it up, and is this its address?") from error
        return connection

    def _prepared(self) -> Connection:
        """What Fabric makes of the configuration, with the checks of host keys that it leaves out."""
        ssh, options = self.host.ssh, self._options()
        via = None
        for hop in ssh.via.split(",") if ssh.via else ():
            via = Connection(hop, gateway=via, connect_timeout=int(self.timeout), connect_kwargs={**options})
        connection = Connection(
            str(self.host.address), user=ssh.user, port=ssh.port, gateway=via, connect_timeout=int(self.timeout), connect_kwargs={**options}
        )
        if self.identity:  # not also those that ~/.ssh/config names
            connection.connect_kwargs["key_filename"] = [str(self.identity)]
        hop = connection
        while isinstance(hop, Connection):  # also the jump hosts of ~/.ssh/config: Fabric by itself accepts any key
            hop.client.set_missing_host_key_policy(Refuse(self._mistake))
            hop.client.load_system_host_keys()
            if self.known_hosts.exists():
                hop.client.load_host_keys(str(self.known_hosts))
            hop = hop.gateway
        return connection

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"banner_timeout": self.timeout, "auth_timeout": self.timeout, "transport_factory": transport}
        if self.identity:
            options |= {"key_filename": [str(self.identity)], "allow_agent": False, "look_for_keys": False}
        return options

    def _mistake(self, what: str, next_step: str) -> Mistake:
        return Mistake.at(self.host.name, what, next_step)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Paramiko's policy for a host whose key is unknown: no."""

    mistake: Callable[[str, str], Mistake]

    def missing_host_key(self, _client: paramiko.SSHClient, name: str, key: paramiko.PKey) -> NoReturn:
        """Tell the key that the host shows, and stop."""
        raise self.mistake(f"the host key of {name} is unknown: it shows {key.fingerprint}", "compare it and run ./inv hosts.trust")


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
    made = paramiko.Transport(Prompt(sock) if isinstance(sock, socket.socket) else sock, **options)
    known = made.get_security_options()
    known.ciphers = first(CIPHERS, known.ciphers)
    known.kex = first(KEX, known.kex)
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a request ends in a small packet
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PATIENCE * 1000)  # with the keepalive: a lost peer ends every wait
    made.set_keepalive(PATIENCE // 3)
    return made


def first(wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """What is known, with what is wanted before the rest."""
    return tuple(name for name in wanted if name in known) + tuple(name for name in known if name not in wanted)


def told(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
