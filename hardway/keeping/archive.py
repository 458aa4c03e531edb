"""An encrypted stream: a header of two lines, then pieces that can be neither changed, moved, left out nor cut off unseen.

    hardway-state 1
    {"cluster": "...", "made": "...", "scrypt": {"n": ..., "r": 8, "p": 1, "salt": "..."}, "nonce": "..."}
    <pieces of 64 KiB, each with its tag>

The key comes of the passphrase by scrypt. Each piece is sealed by ChaCha20-Poly1305 with a nonce that holds its number and whether it is
the last, as in STREAM (https://eprint.iacr.org/2015/189), and the header goes into each as associated data.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from hardway.pki.sealing import AlteredError, cipher

FIRST_LINE = b"hardway-state 1\n"
PIECE = 1 << 16
COST = 1 << 17  # of scrypt: 128 MiB and some tenths of a second for each guess
DEAREST = 1 << 20  # what a header may ask of us
_TAG, _LONGEST, _PREFIX = 16, 4096, 7


class BrokenError(ValueError):
    """It is not what was written with this passphrase; says how."""


class Sink(Protocol):
    """What of a file is written to."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What can be read of an archive without its passphrase."""

    cluster: str
    made: str
    cost: int
    salt: bytes
    nonce: bytes
    text: bytes  # as it stands in the file, to the byte

    @classmethod
    def new(cls, cluster: str, now: datetime, cost: int = COST) -> Header:
        made, salt, nonce = now.isoformat(timespec="seconds"), secrets.token_bytes(16), secrets.token_bytes(_PREFIX)
        kdf = {"n": cost, "r": 8, "p": 1, "salt": salt.hex()}
        document = {"cluster": cluster, "made": made, "scrypt": kdf, "nonce": nonce.hex()}
        text = FIRST_LINE + json.dumps(document).encode() + b"\n"
        return cls(cluster=cluster, made=made, cost=cost, salt=salt, nonce=nonce, text=text)

    @classmethod
    def read(cls, file: BinaryIO) -> Header:
        """The two lines; what follows is left to be read."""
        if file.read(len(FIRST_LINE)) != FIRST_LINE:
            raise BrokenError("it is no archive of state/, or of another version of this kit")
        try:
            line = file.readline(_LONGEST)
            found = json.loads(line)
            kdf = found["scrypt"]
            header = cls(
                cluster=str(found["cluster"]),
                made=str(found["made"]),
                cost=int(kdf["n"]),
                salt=bytes.fromhex(kdf["salt"]),
                nonce=bytes.fromhex(found["nonce"]),
                text=FIRST_LINE + line,
            )
        except (ValueError, KeyError, TypeError):
            raise BrokenError("its header is damaged") from None
        cost = header.cost
        if not 2 <= cost <= DEAREST or cost & (cost - 1) or len(header.nonce) != _PREFIX:
            raise BrokenError("its header is damaged")
        return header

    def numbered(self, number: int, *, last: bool) -> bytes:
        """The nonce of a piece."""
        return self.nonce + number.to_bytes(4, "big") + bytes([last])


class Writer:
    """Encrypts what is written to it; without `close` the archive has no end, and is refused."""

    def __init__(self, file: Sink, header: Header, passphrase: bytes) -> None:
        self._file, self._header, self._cipher = file, header, cipher(passphrase, header.salt, header.cost)
        self._held, self._number = bytearray(), 0
        file.write(header.text)

    def write(self, data: bytes) -> int:
        self._held += data
        while len(self._held) > PIECE:  # what could be the last is held back
            self._seal(bytes(self._held[:PIECE]), last=False)
            del self._held[:PIECE]
        return len(data)

    def close(self) -> None:
        """Write the last piece."""
        self._seal(bytes(self._held), last=True)

    def _seal(self, piece: bytes, *, last: bool) -> None:
        nonce = self._header.numbered(self._number, last=last)
        self._file.write(self._cipher.encrypt(nonce, piece, self._header.text))
        self._number += 1


class Reader:
    """Decrypts piece by piece; nothing is given out that was not verified."""

    def __init__(self, file: BinaryIO, header: Header, passphrase: Callable[[], bytes]) -> None:
        self._file, self._header, self._cipher = file, header, cipher(passphrase(), header.salt, header.cost)
        self._held, self._number, self._over = bytearray(), 0, False
        self._next = file.read(PIECE + _TAG)

    def read(self, size: int) -> bytes:
        while not self._over and len(self._held) < size:
            self._open()
        given = bytes(self._held[:size])
        del self._held[:size]
        return given

    def finish(self) -> None:
        """Read to the end, and see that it is one."""
        while not self._over:
            self._open()
            self._held.clear()

    def _open(self) -> None:
        piece, self._next = self._next, self._file.read(PIECE + _TAG)
        self._over = not self._next
        nonce = self._header.numbered(self._number, last=self._over)
        try:
            self._held += self._cipher.decrypt(nonce, piece, self._header.text)
        except AlteredError:
            first = self._number == 0
            raise BrokenError("the passphrase is wrong, or it was altered" if first else "it was altered or cut short") from None
        self._number += 1
