"""A snapshot is what its note says, of this cluster, and readable with the keys that are here; or it is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.pki.credentials import EncryptionKey
from hardway.snapshot.note import Digests, KeyName, Note, beside, refused, verified

KEY = EncryptionKey(name="key-2026a", secret=base64.b64encode(bytes(32)).decode())
OTHER = EncryptionKey(name="key-2026a", secret=base64.b64encode(bytes([1]) * 32).decode())


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    pages = os.urandom(512 * 9)
    path = tmp_path / "one.db"
    path.write_bytes(pages + hashlib.sha256(pages).digest())
    Note(
        cluster="hardway",
        taken="2026-11-25T00:00:00+00:00",
        member="controller-1",
        etcd_cluster="abc",
        etcd="3.7.3",
        kubernetes="1.37.2",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
        revision=7,
        keys=3,
        hash=5,
        encryption_keys=(KeyName.of(KEY),),
    ).write(path)
    return path


def test_a_note_is_read_as_it_was_written_and_is_for_its_owner_alone(snapshot: Path) -> None:
    note = verified(snapshot)

    assert (note.revision, note.encryption_keys) == (7, (KeyName.of(KEY),))
    assert beside(snapshot).stat().st_mode & 0o777 == 0o600
    assert KEY.secret not in beside(snapshot).read_text()


def swap_notes(path: Path) -> None:
    pages = bytes(512)
    path.write_bytes(pages + hashlib.sha256(pages).digest())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged or no snapshot"),
        (lambda path: path.write_bytes(path.read_bytes()[512:]), "damaged or no snapshot"),
        (lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]), "damaged or no snapshot"),
        (lambda path: path.write_bytes(b""), "damaged or no snapshot"),
        (swap_notes, "not the snapshot that the note beside it was written for"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (lambda path: beside(path).unlink(), "keep the two together"),
        (lambda path: beside(path).write_text("{}"), "is no note of a snapshot"),
        (lambda path: beside(path).write_text("[1]"), "is no note of a snapshot"),
        (lambda path: beside(path).write_text("not JSON"), "is no note of a snapshot"),
    ],
)
def test_what_is_damaged_or_does_not_belong_together_is_refused(snapshot: Path, damage: Callable[[Path], None], told: str) -> None:
    damage(snapshot)

    with pytest.raises(Mistake, match=re.escape(told)):
        verified(snapshot)


def test_a_note_of_a_later_schema_is_not_guessed_at(snapshot: Path) -> None:
    later = json.loads(beside(snapshot).read_text()) | {"schema": 2}
    beside(snapshot).write_text(json.dumps(later))

    with pytest.raises(Mistake, match="is no note"):
        verified(snapshot)


def test_the_digest_does_not_depend_on_how_the_bytes_come(snapshot: Path) -> None:
    data = snapshot.read_bytes()
    for size in (1, 7, 512, 4640, len(data)):
        digests = Digests()
        for start in range(0, len(data), size):
            digests.take(data[start : start + size])
        assert digests.whole
        assert digests.sha256 == hashlib.sha256(data).hexdigest()


def test_another_clusters_is_refused(snapshot: Path) -> None:
    note = verified(snapshot)

    assert refused(note, snapshot, "hardway", [KEY]) == ()
    assert "it was taken of cluster hardway, this one is other" in str(refused(note, snapshot, "other", [KEY])[0])


@pytest.mark.parametrize("keys", [[], [OTHER], [replace(KEY, name="key-2026b")]])
def test_one_whose_encryption_key_is_not_here_is_refused(snapshot: Path, keys: list[EncryptionKey]) -> None:
    (finding,) = refused(verified(snapshot), snapshot, "hardway", keys)

    assert "encryption key key-2026a" in finding.what
    assert KEY.secret not in str(finding)
