"""Takes a snapshot of etcd from a member that is well, and keeps it with a note of what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from hardway.components import etcd
from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.remote.cluster import Cluster
from hardway.snapshot.member import ask
from hardway.snapshot.note import Digests, KeyName, Note
from hardway.state import State, replacing

Tell = Callable[[str], None]


def save(cluster: Cluster, path: Path, now: datetime, tell: Tell) -> Note:
    """Write a snapshot to `path` and its note beside it; neither is there if anything fails."""
    if path.exists():
        raise Mistake.at(str(path), "is there already", "choose another name: no snapshot is overwritten")
    host = healthy(cluster)
    member = etcd.status(cluster, host)
    digests = Digests()
    try:
        with cluster.lock((host,), "take a snapshot"), replacing(path) as file:

            def take(piece: bytes) -> None:
                digests.take(piece)
                file.write(piece)

            tell(f"{host.name}: a snapshot of the member there")
            said = cluster.machine(host).stream(take, *ask("save", f"https://{host.address}:{etcd.CLIENT_PORT}"))
            found = json.loads(said.strip().splitlines()[-1])
            if not digests.whole:
                raise Mistake.at(host.name, "its snapshot arrived damaged or cut short", "run it again")
            note = Note(
                cluster=cluster.inventory.cluster,
                taken=now.isoformat(timespec="seconds"),
                member=host.name,
                etcd_cluster=f"{member.cluster:x}",
                etcd=member.version,
                kubernetes=cluster.inventory.versions.kubernetes,
                sha256=digests.sha256,
                size=digests.size,
                revision=int(found["revision"]),
                keys=int(found["totalKey"]),
                hash=int(found["hash"]),
                encryption_keys=tuple(KeyName.of(key) for key in cluster.credentials.encryption_keys),
            )
            note.write(path)  # before the snapshot takes its place: one that is there has its note
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be written: {error.strerror or error}") from error
    return note


def place(state: State, now: datetime, why: str = "") -> Path:
    """Where a snapshot goes that nobody gave a name: into state/, by the time."""
    path = state.path(f"snapshots/{now:%Y-%m-%dT%H-%M-%SZ}{why and f'-{why}'}.db")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return path


def healthy(cluster: Cluster) -> Host:
    """A host whose member is well; one that follows, to spare the leader, if there is one."""
    wrong: list[Finding] = []
    well: list[Host] = []
    for host in cluster.inventory.on("controller"):
        try:
            why = etcd.member_healthy(cluster, host)
        except Mistake as mistake:
            why = str(mistake)
        if why:
            wrong.append(Finding(where=host.name, what=f"etcd: {why}"))
        else:
            well.append(host)
    if not well:
        raise Mistake(*wrong)
    leader = etcd.leader(cluster)
    return next((host for host in well if host != leader), well[0])
