"""The local cache of programs: one shelf for each project, version and architecture."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hardway.errors import Mistake

CACHED = "local cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is recorded beside a program: what it is, where it came from, and by what a change of the file shows."""

    sha256: str
    size: int
    modified: int  # nanoseconds
    inode: int
    origin: str  # where its bytes came from
    release_sha256: str | None = None  # of the release file that it was taken from


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One program, or one archive of an image, on this machine."""

    name: str
    version: str
    arch: str
    sha256: str
    size: int
    path: Path
    source: str  # where this call got it: the local cache, a URL, a Go build
    origin: str  # where its bytes first came from


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Shelf:
    """The programs of one project, version and architecture, by what they were made from: a release or sources."""

    folder: Path

    def place(self, source: str, program: str) -> Path:
        """Where a program stands once it is complete."""
        return self.folder / source / program

    def find(self, source: str, program: str) -> Entry | None:
        """What is recorded of a program that is there and whose file has not changed since."""
        path = self.place(source, program)
        try:
            entry = Entry(**json.loads(_record(path).read_text()))
            stat = path.stat()
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return entry if (stat.st_size, stat.st_mtime_ns, stat.st_ino) == (entry.size, entry.modified, entry.inode) else None

    def verify(self, source: str, program: str) -> Entry | None:
        """As `find`, but a file that has changed is hashed again; only for who holds the lock."""
        path = self.place(source, program)
        if (entry := self.find(source, program)) or not (path.exists() and _record(path).exists()):
            return entry
        try:
            entry = Entry(**json.loads(_record(path).read_text()))
        except (ValueError, TypeError):
            return None
        if digest(path) == entry.sha256:
            stat = path.stat()
            entry = replace(entry, modified=stat.st_mtime_ns, inode=stat.st_ino)
            _write(_record(path), entry)
            return entry
        path.unlink()
        _record(path).unlink()
        raise Mistake.at(str(path), "was changed after it was brought here and has been removed", "run the same again to bring it anew")

    def put(self, source: str, program: str, made: Path, *, origin: str, release_sha256: str | None = None) -> Entry:
        """Take in a complete file from `scratch`; whoever looks sees all of it or nothing."""
        path = self.place(source, program)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.chmod(0o755)
        stat = made.stat()
        entry = Entry(
            sha256=digest(made),
            size=stat.st_size,
            modified=stat.st_mtime_ns,
            inode=stat.st_ino,
            origin=origin,
            release_sha256=release_sha256,
        )
        # Without its record a program is not there: a kill between these three lines costs a repetition, nothing else.
        _record(path).unlink(missing_ok=True)
        made.replace(path)
        _write(_record(path), entry)
        return entry

    @property
    def partial(self) -> Path:
        """Downloads that go on where they were cut."""
        return self.folder / "partial"

    @contextmanager
    def locked(self, tell: Callable[[str], None]) -> Iterator[Path]:
        """One process at a time fills a shelf; gives it a scratch folder, empty and removed at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        scratch = self.folder / "scratch"
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(f"{self.folder}: another run fills this part of the cache; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
            scratch.mkdir()
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _write(path: Path, entry: Entry) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(entry)))
    new.replace(path)
