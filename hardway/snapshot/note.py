"""What is known of a snapshot: a small JSON file beside it, without which it is only bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardway.errors import Finding, Mistake
from hardway.pki.credentials import EncryptionKey
from hardway.state import replacing

PIECE = 1 << 20
DIGEST = 32  # bytes of SHA-256 that etcd writes behind its pages
PAGE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyName:
    """A key of encryption at rest by its name, and by a digest that tells another key of that name."""

    name: str
    fingerprint: str

    @classmethod
    def of(cls, key: EncryptionKey) -> KeyName:
        return cls(name=key.name, fingerprint=hashlib.sha256(key.secret.encode()).hexdigest()[:16])


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Whose snapshot it is, what is in it, and which keys it needs."""

    cluster: str
    taken: str
    member: str  # the host that gave it
    etcd_cluster: str  # in hex, as etcd logs it
    etcd: str  # versions
    kubernetes: str
    sha256: str  # of the whole file
    size: int
    revision: int
    keys: int
    hash: int  # etcd's own, over keys and values
    encryption_keys: tuple[KeyName, ...]

    @property
    def document(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}

    def write(self, snapshot: Path) -> None:
        """Write it down beside the snapshot."""
        with replacing(beside(snapshot)) as file:
            file.write(f"{json.dumps(self.document, indent=2)}\n".encode())

    @classmethod
    def read(cls, snapshot: Path) -> Note:
        """What stands beside a snapshot."""
        path = beside(snapshot)
        try:
            found = json.loads(path.read_text())
            found = {1: found}[found.pop("schema")]  # the only one so far
            keys = tuple(KeyName(**key) for key in found.pop("encryption_keys"))
            return cls(encryption_keys=keys, **found)
        except OSError as error:
            step = "it was written with the snapshot and says whose it is: keep the two together"
            raise Mistake.at(str(path), f"cannot be read: {error.strerror}", step) from error
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Mistake.at(str(path), "is no note of a snapshot", "./inv etcd.snapshot writes one beside each") from None


def beside(snapshot: Path) -> Path:
    """Where a snapshot's note lies."""
    return snapshot.with_name(f"{snapshot.name}.json")


class Digests:
    """What is learnt of a snapshot's bytes as they pass: their digest, and whether they end in the one that etcd has written."""

    def __init__(self) -> None:
        self._whole, self._pages, self._last, self.size = hashlib.sha256(), hashlib.sha256(), b"", 0

    def take(self, piece: bytes) -> None:
        """Learn from what comes next."""
        self._whole.update(piece)
        self.size += len(piece)
        held = self._last + piece
        self._pages.update(held[:-DIGEST])
        self._last = held[-DIGEST:]

    @property
    def sha256(self) -> str:
        return self._whole.hexdigest()

    @property
    def whole(self) -> bool:
        """Pages, and behind them their SHA-256: a file that was cut short or damaged is neither."""
        return self.size > DIGEST and self.size % PAGE == DIGEST and self._pages.digest() == self._last


def verified(snapshot: Path) -> Note:
    """The note of a snapshot whose bytes are what it says; a Mistake if they are not."""
    digests = Digests()
    try:
        with snapshot.open("rb") as file:
            while piece := file.read(PIECE):
                digests.take(piece)
    except OSError as error:
        raise Mistake.at(str(snapshot), f"cannot be read: {error.strerror}") from error
    if not digests.whole:
        raise Mistake.at(str(snapshot), "it is damaged or no snapshot: it does not end in the digest of its content", "take another one")
    note = Note.read(snapshot)
    if note.sha256 != digests.sha256:
        raise Mistake.at(
            str(snapshot), "it is not the snapshot that the note beside it was written for", "bring back the two that belong together"
        )
    return note


def refused(note: Note, snapshot: Path, cluster: str, keys: Iterable[EncryptionKey]) -> tuple[Finding, ...]:
    """Why a snapshot may not be restored into a cluster that has these keys."""
    where = str(snapshot)
    if note.cluster != cluster:
        return (
            Finding(
                where=where,
                what=f"it was taken of cluster {note.cluster}, this one is {cluster}",
                next_step="name the inventory of that one",
            ),
        )
    here = {KeyName.of(key) for key in keys}
    step = "bring its file pki/encryption/ back from a backup of state/: what it encrypted cannot be read without it"
    return tuple(
        Finding(where=where, what=f"encryption key {key.name} (fingerprint {key.fingerprint}) is not in this state/", next_step=step)
        for key in note.encryption_keys
        if key not in here
    )
