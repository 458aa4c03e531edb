"""etcd.snapshot, etcd.restore, etcd.revert, etcd.rejoin: what etcd holds, kept and put back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session


@task(auto_shortflags=False, help={"out": "where to; else state/<cluster>/snapshots/, by the time"})
def snapshot(c: Context, out: str = "") -> None:
    """Take a verified snapshot of etcd, with a note of whose it is and which keys it needs.

    What is encrypted in it, such as Secrets, can only be read with the encryption keys that the note names: they are in
    state/<cluster>/pki/encryption/, and a backup of the snapshot without them is worth little.
    """
    from hardway.snapshot.save import place, save
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    state, now = State(session.state), datetime.now(UTC)
    path = Path(out) if out else place(state, now)
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
    },
)
def restore(c: Context, file: str, yes: bool = False) -> None:
    """Put a snapshot in place of what etcd holds, on all members: FILE --yes.

    A damaged file, another cluster's or one whose encryption key is missing is refused before anything stops. The old data is
    kept on each host, and named. If it is cut short, the same again goes on, and etcd.revert puts the old data back.
    """
    from hardway.snapshot.restore import restore as put
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    _meant("etcd.restore", "every controller's etcd and API server stop, and what was written since the snapshot is gone", yes=yes)
    state = State(session.state)
    with session.console.step("restore") as tell, running(session, state, tell, issuing=False) as cluster:
        kept = put(cluster, Path(file), state, datetime.now(UTC), tell)
    session.console.result(f"{file} is restored on every member")
    for one in kept:
        session.console.result(f"what was there before is kept in {one}: remove it when it is no longer needed")


@task(auto_shortflags=False, help={"yes": "do it: every controller's etcd and API server stop for a while"})
def revert(c: Context, yes: bool = False) -> None:
    """Give up a restore that is not over: every member has its old data again."""
    from hardway.snapshot.restore import revert as put_back
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    _meant("etcd.revert", "every controller's etcd and API server stop for a while", yes=yes)
    with session.console.step("revert") as tell, running(session, State(session.state), tell, issuing=False) as cluster:
        put_back(cluster, tell)
    session.console.result("the old data is back on every member")


@task(
    auto_shortflags=False,
    positional=["host"],
    help={"host": "a controller", "yes": "also if etcd has data there: it is kept aside, and named"},
)
def rejoin(c: Context, host: str, yes: bool = False) -> None:
    """Put a member of etcd back that has lost its data, while the cluster is in use: HOST.

    The old member leaves, a new one joins as a learner, takes the data from the others, and votes once it has caught up. All other
    members have to be well. If it is cut short, the same again goes on.
    """
    from hardway.snapshot.rejoin import rejoin as put_back
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    with session.console.step(f"rejoin {host}") as tell, running(session, State(session.state), tell, issuing=False) as cluster:
        back = put_back(cluster, host, datetime.now(UTC), tell, yes=yes)
    session.console.result(f"{host} has a member that votes again: {back.member.name} ({back.member.id:x})")
    if back.kept:
        session.console.result(f"what was there before is kept in {back.kept}: remove it when it is no longer needed")


def _meant(verb: str, what: str, *, yes: bool) -> None:
    if not yes:
        raise Mistake.at(verb, what, "add --yes if that is meant")
