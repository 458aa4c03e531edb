"""The directory state/<cluster>/: keys, certificates, kubeconfigs; each file 0600 in directories 0700, replaced whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from hardway.errors import Finding, Mistake

PKI = "pki/**/*"
SECRET = ("pki", PKI, "snapshots", "snapshots/*", "*.kubeconfig")
_LOOSE = 0o077  # any permission of group or other


@dataclass(frozen=True, slots=True)
class State:
    """One cluster's directory. Names are relative to it, such as `pki/etcd/etcd-peer@controller-1.pem`."""

    root: Path
    original: Path | None = None  # of a draft: what an operator knows it by

    def where(self, name: str) -> str:
        """How a name is told to an operator."""
        return str((self.original or self.root) / name)

    def path(self, name: str) -> Path:
        """Where a name lies."""
        return self.root / name

    def glob(self, pattern: str) -> tuple[str, ...]:
        """The names that are there, sorted."""
        self._refuse_if_loose(self.root)
        found = (path for path in self.root.glob(pattern) if path.is_file() and not path.name.startswith("."))
        return tuple(sorted(path.relative_to(self.root).as_posix() for path in found))

    def read(self, name: str) -> bytes:
        """The content of a file that only its owner can read."""
        self._refuse_if_loose(self.root)
        path = self.path(name)
        self._refuse_if_loose(path)
        try:
            return path.read_bytes()
        except OSError as error:
            raise Mistake.at(str(path), f"cannot be read: {error.strerror}") from error

    def write(self, name: str, data: bytes) -> None:
        """Replace a file; after a crash there is the old one or the new one, whole."""
        self._refuse_if_loose(self.root)
        path = self.path(name)
        try:
            self._make_directory(path.parent)
            with replacing(path) as file:
                file.write(data)
        except OSError as error:
            raise Mistake.at(str(path), f"cannot be written: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self._refuse_if_loose(self.root)
        path = self.path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise Mistake.at(str(path), f"cannot be removed: {error.strerror}") from error

    def move(self, name: str, to: str) -> None:
        """Give a file another name, if it is there; a link stays one."""
        self._refuse_if_loose(self.root)
        path = self.path(name)
        try:
            if os.path.lexists(path):
                path.rename(self.path(to))
                _sync(path.parent)
        except OSError as error:
            raise Mistake.at(str(path), f"cannot be renamed: {error.strerror}") from error

    def link(self, name: str, target: Path) -> None:
        """Say that a file lies elsewhere."""
        self._refuse_if_loose(self.root)
        path = self.path(name)
        self._make_directory(path.parent)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def refuse_if_loose(self) -> None:
        """Stop if others than the owner have access to anything secret here; all of it is told, with one command for each."""
        secret = (path for pattern in SECRET for path in self.root.glob(pattern) if not path.is_symlink())
        if found := [finding for path in (self.root, *sorted(secret)) if (finding := self._loose(path))]:
            raise Mistake(*found)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from issuing into the same directory."""
        with self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wait until nobody writes, and keep it so: what is read in here belongs together."""
        with self._lock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        self._make_directory(self.root)
        self._refuse_if_loose(self.root)
        descriptor = os.open(self.path(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, how)
            except BlockingIOError:
                raise Mistake.at(str(self.root), "another run of this kit is writing here", "wait until it has ended") from None
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """A copy of the PKI to issue into; gone afterwards, unless it was kept."""
        self._make_directory(self.root)
        with self.reading():
            base = {name: self.read(name) for name in self.glob(PKI)}
        with ExitStack() as stack:
            try:
                directory = stack.enter_context(tempfile.TemporaryDirectory(dir=self.root, prefix=".draft-"))
                copy = State(Path(directory), original=self.root)
                for name, data in base.items():
                    path = copy.path(name)
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    path.touch(mode=0o600)
                    path.write_bytes(data)
            except OSError as error:
                raise Mistake.at(str(self.root), f"cannot be written: {error.strerror}") from error
            yield Draft(state=copy, original=self, base=base)

    def _make_directory(self, directory: Path) -> None:
        missing = [directory]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)

    def _refuse_if_loose(self, path: Path) -> None:
        if finding := self._loose(path):
            raise Mistake(finding)

    def _loose(self, path: Path) -> Finding | None:
        try:
            return loose(path, path.stat().st_mode)
        except OSError:
            return None  # what is not there is told by whoever opens it


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a run would issue, beside what is there."""

    state: State  # the copy
    original: State
    base: Mapping[str, bytes] = field(repr=False)  # as it was when the copy was made

    def keep(self) -> None:
        """Write down what was issued; a Mistake, and nothing written, if somebody else has issued meanwhile."""
        issued = {name: data for name in self.state.glob(PKI) if (data := self.state.read(name)) != self.base.get(name)}
        if not issued:
            return
        with self.original.locked():
            if {name: self.original.read(name) for name in self.original.glob(PKI)} != self.base:
                raise Mistake.at(str(self.original.root), "another run has issued certificates meanwhile", "run it again")
            for name, data in issued.items():
                self.original.write(name, data)


def loose(path: Path, mode: int) -> Finding | None:
    """What is to be said of a secret file that others than its owner may use; None if they may not."""
    if not mode & _LOOSE:
        return None
    what = f"others than its owner have access (mode {mode & 0o7777:04o})"
    return Finding(where=str(path), what=what, next_step=f"look who could have read it, then `chmod go= {path}`")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file of our own to write to that takes its place when the context ends well; after a crash there is the old one or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")  # 0600 from its first moment
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
