"""etcd.snapshot, etcd.restore: what etcd holds, kept and put back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session


@task(auto_shortflags=False, help={"out": "where to; else state/<cluster>/snapshots/, by the time"})
def snapshot(c: Context, out: str = "") -> None:
    """Take a verified snapshot of etcd, with a note beside it that says whose it is and which keys it needs.

    What is encrypted in it, such as Secrets, can only be read with the encryption keys that the note names: they are in
    state/<cluster>/pki/encryption/, and a backup of the snapshot without them is worth little.
    """
    from hardway.snapshot.save import save
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    state, now = State(session.state), datetime.now(UTC)
    path = Path(out) if out else state.path(f"snapshots/{now:%Y-%m-%dT%H-%M-%SZ}.db")
    if not out:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with session.console.step("snapshot") as tell, running(session, state, tell, issuing=False) as cluster:
        note = save(cluster, path, now, tell)
    session.console.result(f"{path}: revision {note.revision}, {note.keys} keys, {note.size / 1e6:.1f} MB, hash {note.hash:x}")
    names = ", ".join(key.name for key in note.encryption_keys)
    session.console.result(f"it needs encryption key {names} of {state.path('pki/encryption')}: keep both, in different places")


@task(
    auto_shortflags=False,
    positional=["file"],
    help={
        "file": "a snapshot, with its note beside it",
        "yes": "do it: what was written since the snapshot is gone, and the API is away for a while",
        "back": "give up a restore that is not over, and put the old data back",
    },
)
def restore(c: Context, file: str = "", yes: bool = False, back: bool = False) -> None:
    """Put a snapshot in place of what etcd holds, on all members: FILE --yes.

    A damaged file, another cluster's or one whose encryption key is missing is refused before anything stops. The old data is
    kept on each host, and named. If it is cut short, the same again goes on, and --back --yes puts the old data back.
    """
    from hardway.snapshot import restore as engine
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    if bool(file) == back:
        raise Mistake.at("etcd.restore", "name a snapshot, or --back", "./inv etcd.snapshot takes one")
    if not yes:
        what = "every controller's etcd and API server stop, and what was written since the snapshot is gone"
        raise Mistake.at("etcd.restore", what, "add --yes if that is meant")
    kept: tuple[str, ...] = ()
    with session.console.step("restore") as tell, running(session, State(session.state), tell, issuing=False) as cluster:
        if back:
            engine.back(cluster, tell)
        else:
            kept = engine.restore(cluster, Path(file), datetime.now(UTC), tell)
    session.console.result("the old data is back on every member" if back else f"{file} is restored on every member")
    for one in kept:
        session.console.result(f"the data before it is kept in {one}: remove it when you no longer need it")
