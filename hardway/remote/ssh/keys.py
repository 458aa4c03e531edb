"""The keys that an operator signs in with: of his agent and of files; a passphrase is asked for last, and once for all hosts."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko.auth_strategy import InMemoryPrivateKey

from hardway.errors import Mistake
from hardway.remote.ssh.way import Way

MAGIC = b"openssh-key-v1\0"
Ask = Callable[[str], str]


def nobody(question: str) -> str:
    """Who answers where nobody can be asked."""
    raise Mistake.at("", f"{question} is wanted, and nobody can be asked for it", "add the key to ssh-agent")


@dataclass(slots=True)
class Once:
    """Asks each question once, for whichever threads want the answer."""

    ask: Ask
    _answers: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _asking: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __call__(self, question: str) -> str:
        with self._asking:
            if question not in self._answers:
                self._answers[question] = self.ask(question)
            return self._answers[question]


@dataclass(frozen=True, slots=True)
class SignIn:
    """Tries what needs no question first; one connection, whatever comes of it. Paramiko's client takes it as its strategy."""

    way: Way
    ask: Ask

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Sign in; AuthenticationException if nobody lets us, a Mistake if a key cannot be used."""
        with closing(paramiko.Agent()) as agent:
            self._try(transport, {key.asbytes(): key for key in agent.get_keys()})

    def _try(self, transport: paramiko.Transport, agent: dict[bytes, paramiko.AgentKey]) -> None:
        refused: paramiko.AuthenticationException | None = None
        for source in self._sources(agent):
            try:
                left = source.authenticate(transport)
            except paramiko.AuthenticationException as error:
                refused = error
                if not transport.is_active():
                    break
            else:
                if not left:
                    return
                refused = paramiko.AuthenticationException(f"it also wants {' or '.join(left)}")
        raise refused or paramiko.AuthenticationException("no key was found")

    def _sources(self, agent: dict[bytes, paramiko.AgentKey]) -> Iterator[InMemoryPrivateKey]:
        """The agent's keys that are meant, keys of files, the agent's others, and last those that have a passphrase."""
        user, locked = self.way.user, []
        for path in self.way.keys:
            if (blob := public(path)) and (held := agent.pop(blob, None)):
                yield InMemoryPrivateKey(user, held)
            elif (key := loaded(path, None)) is None:
                locked.append(path)
            else:
                yield InMemoryPrivateKey(user, key)
        if not self.way.only:
            yield from (InMemoryPrivateKey(user, key) for key in agent.values())
        for path in locked:
            key = loaded(path, self.ask(f"the passphrase of {path}"))
            if key is None:
                raise Mistake.at(str(path), "that is not its passphrase", "run it again, or add the key to ssh-agent")
            yield InMemoryPrivateKey(user, key)


def loaded(path: Path, passphrase: str | None) -> paramiko.PKey | None:
    """A private key; None if it wants a passphrase, or another one. Its cryptography is Paramiko's."""
    try:
        return paramiko.PKey.from_path(path, passphrase.encode() if passphrase else None)
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be read: {error.strerror}", "see `key` under `ssh` in the inventory") from error
    except (TypeError, ValueError, paramiko.SSHException) as error:
        # What has a passphrase is told by no type of its own; what is no key at all, by its first line.
        if encrypted(path):
            return None
        raise Mistake.at(str(path), "is no private key", "see `key` under `ssh` in the inventory") from error


def encrypted(path: Path) -> bool:
    """Whether a private key has a passphrase."""
    text = path.read_bytes()
    blob = _inside(text)
    if blob.startswith(MAGIC):
        return bytes(paramiko.Message(blob[len(MAGIC) :]).get_string()) != b"none"
    return b"ENCRYPTED" in text


def public(path: Path) -> bytes:
    """The public half of a private key, for which no passphrase is wanted; nothing if it cannot be told."""
    try:
        blob = _inside(path.read_bytes())
        if blob.startswith(MAGIC):
            parts = paramiko.Message(blob[len(MAGIC) :])
            for _ in range(3):  # cipher, key derivation, its options
                parts.get_string()
            parts.get_int()
            return bytes(parts.get_string())
        return base64.b64decode(path.with_name(f"{path.name}.pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return b""


def _inside(text: bytes) -> bytes:
    lines = [line for line in text.splitlines() if line and not line.startswith(b"-----")]
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except ValueError:
        return b""
