"""state.*: what this machine keeps of a cluster, backed up, brought back, sealed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session


@task(auto_shortflags=False, positional=["file"], help={"file": "where to; no file that is there is overwritten"})
def backup(c: Context, file: str) -> None:
    """Write state/<cluster>/ into one encrypted archive: FILE.

    All but snapshots and the lab's hosts. The passphrase stands in the file that --passphrase-file or HARDWAY_PASSPHRASE_FILE names, is
    typed, or comes from the program that SSH_ASKPASS names. Whoever has both has the cluster.
    """
    from hardway.keeping import backup as keeping
    from hardway.state import State

    session = Session.open(c)
    state, cluster = State(session.state), session.inventory.cluster
    passphrase = session.passphrase.new(f"the new backup {file}")
    count = keeping.backup(state, cluster, Path(file), passphrase, datetime.now(UTC))
    session.console.result(f"{file}: {count} files of {state.root}")


@task(
    auto_shortflags=False,
    positional=["file"],
    help={"file": "what state.backup has written", "replace": "there is a state/ already: it is kept beside, under another name"},
)
def restore(c: Context, file: str, replace: bool = False) -> None:
    """Put a backup in place of state/<cluster>/: FILE; all of it is verified first."""
    from hardway.keeping import backup as keeping
    from hardway.state import State

    session = Session.open(c)
    state, cluster = State(session.state), session.inventory.cluster
    now = datetime.now(UTC)
    count, before = keeping.restore(state, cluster, Path(file), lambda: session.passphrase(file), now, replace=replace)
    session.console.result(f"{state.root}: {count} files of {file}")
    if before:
        session.console.result(f"what was there before is in {before}: remove it when it is no longer needed, there are keys in it")
    session.console.tell("`./inv plan` shows whether the machines still carry what this state/ holds")


@task(auto_shortflags=False)
def recover(c: Context) -> None:
    """Build state/<cluster>/ anew from what the hosts carry, and list what is lost.

    For when state/ and every backup of it are gone. Nothing is written on the hosts.
    """
    from hardway.keeping import reading, recovery
    from hardway.pki import declared
    from hardway.pki.credentials import credentials
    from hardway.pod_ranges import Ranges
    from hardway.remote.cluster import Cluster
    from hardway.state import State
    from hardway.verbs.program.running import machines

    session = Session.open(c)
    state, now = State(session.state), datetime.now(UTC)
    recovery.refuse_if_there(state)
    declarations = declared.load(session.certs)
    with session.console.step("recover") as tell, machines(session) as reached:

        def nodes(fresh: State) -> Ranges:
            try:
                have = credentials(declarations, session.inventory, fresh)
                return recovery.of_nodes(Cluster(session.inventory, have, reached, lambda: have.operator("admin")).api("/api/v1/nodes"))
            except Mistake as mistake:  # a cluster that is down has its state/ recovered all the same
                tell(f"the Nodes were not asked for their Pod ranges: {mistake}")
                return {}

        read = reading.ask(session.inventory, declarations, reached)
        found = recovery.recovered(declarations, session.inventory, read, now)
        ranges = recovery.keep(state, found, nodes)
    lost = (*found.lost, *recovery.unranged(session.inventory, ranges))
    for loss in lost:
        session.console.result(f"lost: {loss}")
    session.console.result(f"{state.root}: {len(found.files)} files; {len(lost)} losses; `./inv plan` compares it with the machines")


@task(auto_shortflags=False, help={"out": "a directory elsewhere, such as a stick, where the keys go"})
def seal(c: Context, out: str = "") -> None:
    """Put the keys of the authorities under a passphrase; with --out they also leave state/.

    Verbs that issue nothing do without them. Those that do ask for the passphrase, or say which key they miss.
    """
    from hardway.pki import declared, sealing
    from hardway.state import State

    session = Session.open(c)
    passphrase = session.passphrase.new("the authorities' keys")
    for line in sealing.seal(declared.load(session.certs), State(session.state), passphrase, Path(out) if out else None):
        session.console.result(line)


@task(auto_shortflags=False)
def unseal(c: Context) -> None:
    """Put the keys of the authorities back into state/, open: also to take another passphrase."""
    from hardway.pki import declared, sealing
    from hardway.state import State

    session = Session.open(c)
    for line in sealing.unseal(declared.load(session.certs), State(session.state), session.passphrase):
        session.console.result(line)


@task(
    auto_shortflags=False,
    positional=["name", "file"],
    help={"name": "which, such as kubernetes", "file": "PEM: its certificate, those above it in order, its key"},
)
def authority(c: Context, name: str, file: str) -> None:
    """Take an authority of your own, before the first push: NAME FILE."""
    from hardway.pki import declared, sealing
    from hardway.state import State

    session = Session.open(c)
    declarations, state = declared.load(session.certs), State(session.state)
    target = sealing.adopt(declarations, session.inventory, state, name, Path(file), datetime.now(UTC))
    session.console.result(f"{state.path(target)}: authority {name}")
