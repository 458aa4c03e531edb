"""state/ as one encrypted archive, and back: all of it is verified before anything takes its place."""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from hardway.errors import Mistake
from hardway.keeping.archive import COST, BrokenError, Header, Reader, Writer
from hardway.state import State, replacing

LARGEST = 1 << 24  # bytes of one file
MOST = 100_000  # files
ELSEWHERE = ("lab", "snapshots")  # hosts of this machine; data of the cluster, kept apart from its keys
_NAME = re.compile(r"[A-Za-z0-9_@+][A-Za-z0-9_.@+-]*(/[A-Za-z0-9_@+][A-Za-z0-9_.@+-]*)*")


def names(state: State) -> tuple[str, ...]:
    """What is kept: every file but what is hidden, what is a link to a key that is kept elsewhere, and `ELSEWHERE`."""
    tops = sorted(path.name for path in state.root.glob("*") if path.name not in ELSEWHERE and not path.name.startswith("."))
    found = (name for top in tops for name in (*state.glob(top), *state.glob(f"{top}/**/*")))
    return tuple(name for name in found if not state.path(name).is_symlink())


def backup(state: State, cluster: str, file: Path, passphrase: bytes, now: datetime, cost: int = COST) -> int:
    """Write the archive, whole or not at all; the number of files in it."""
    if file.exists():
        raise Mistake.at(str(file), "is there already", "choose another name: no backup is overwritten")
    if not state.glob("pki/**/*"):
        raise Mistake.at(str(state.root), "there is nothing to keep", "name the inventory of a cluster that was pushed from here")
    state.refuse_if_loose()
    with state.reading():
        kept = {
            name: state.path(name).read_bytes() for name in names(state)
        }  # what is no secret, such as known_hosts, may be read by others
    if strange := [name for name in kept if not _NAME.fullmatch(name)]:
        raise Mistake.at(str(state.path(strange[0])), "is not of this kit by its name", "move it out of state/")
    try:
        with replacing(file) as out:
            writer = Writer(out, Header.new(cluster, now, cost), passphrase)
            with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload] # it only writes
                for name, data in kept.items():
                    member = tarfile.TarInfo(name)
                    member.size, member.mode, member.mtime = len(data), 0o600, int(state.path(name).stat().st_mtime)
                    tar.addfile(member, io.BytesIO(data))
            writer.close()
    except OSError as error:
        raise Mistake.at(str(file), f"cannot be written: {error.strerror or error}", "name a file in a directory that is there") from error
    return len(kept)


def restore(
    state: State, cluster: str, file: Path, passphrase: Callable[[], bytes], now: datetime, *, replace: bool = False
) -> tuple[int, Path | None]:
    """Put an archive's content in place of state/<cluster>/: how many files, and where what was there is now."""
    taken = bool(set(names(state)) - {"known_hosts"})
    if taken and not replace:
        what = "there is a state/ already, and it may hold keys that no backup has"
        raise Mistake.at(str(state.root), what, "with --replace the old one is kept beside it")
    with _unpacked(state.root, cluster, file, passphrase) as (fresh, count), state.locked():
        before = state.root.with_name(f"{state.root.name}.before-{now:%Y-%m-%dT%H-%M-%SZ}") if taken else None
        _swap(state.root, fresh, before)
    return count, before


def _swap(root: Path, fresh: Path, before: Path | None) -> None:
    """What belongs to this machine, such as the lab's hosts, stays where it is; the rest changes places, the keys last."""
    if before:
        before.mkdir(mode=0o700)
    ours = {path.name for path in root.iterdir() if before and path.name not in {*ELSEWHERE, "known_hosts"} and path.name[0] != "."}
    theirs = {path.name for path in fresh.iterdir() if path.name != "known_hosts" or not (root / path.name).exists()}  # ours is newer
    for name in sorted(ours | theirs, key=lambda name: (name == "pki", name)):
        if before and name in ours:
            (root / name).rename(before / name)
        if name in theirs:
            (fresh / name).rename(root / name)


@contextmanager
def _unpacked(root: Path, cluster: str, file: Path, passphrase: Callable[[], bytes]) -> Iterator[tuple[Path, int]]:
    """All of an archive, verified to its end, in a directory of our own beside what it will replace."""
    try:
        with file.open("rb") as source:
            header = Header.read(source)
            if header.cluster != cluster:
                raise Mistake.at(str(file), f"it is of cluster {header.cluster}, this one is {cluster}", "name the inventory of that one")
            root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root.parent, prefix=".restore-") as directory:
                fresh = Path(directory)
                reader = Reader(source, header, passphrase)
                count = _unpack(reader, State(fresh))
                reader.finish()
                yield fresh, count
    except OSError as error:
        raise Mistake.at(str(error.filename or file), f"cannot be read or written: {error.strerror or error}") from error
    except (BrokenError, tarfile.TarError) as error:
        what = str(error) if isinstance(error, BrokenError) else "what is in it is damaged"
        raise Mistake.at(str(file), what, "nothing was touched; take another copy of it") from None


def _unpack(reader: Reader, fresh: State) -> int:
    """Regular files with plain names; whoever knows the passphrase may still not write elsewhere."""
    count = 0
    with tarfile.open(fileobj=reader, mode="r|") as tar:  # type: ignore[call-overload] # it only reads
        for member in tar:
            count += 1
            if not member.isreg() or not _NAME.fullmatch(member.name) or member.size > LARGEST or count > MOST:
                raise BrokenError(f"{member.name!r} in it is nothing that this kit writes")
            content = tar.extractfile(member)
            fresh.write(member.name, content.read() if content else b"")
    return count
