"""kubeconfig: short-lived access for a person."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.duration import duration
from hardway.verbs.program.session import Session


@task(
    auto_shortflags=False,
    help={
        "user": "the name that RBAC knows",
        "group": "a group that RBAC knows",
        "for": "how long it is good for, such as 8h or 2d; at most 30d",
        "embed": "one file that holds certificate and key, instead of one that names files beside it",
        "out": "the file to write, USER.kubeconfig if not given; - with --embed for standard output",
    },
)
def kubeconfig(c: Context, user: str = "", group: str = "", for_: str = "8h", embed: bool = False, out: str = "") -> None:
    """Issue a short-lived kubeconfig for a person, and say what it allows."""
    from hardway import people
    from hardway.certs import person
    from hardway.state import State
    from hardway.verbs.program.running import running

    session = Session.open(c)
    who = person.Person(user=user, group=group or None, lifetime=duration("--for", for_))
    if not user:
        raise Mistake.at("--user", "a name is missing", "write --user NAME")
    if out == "-" and not embed:
        raise Mistake.at("--out", "- is one file, and without --embed there are three", "add --embed, or name a file")
    if Path(out).suffix == ".pem" and not embed:
        raise Mistake.at("--out", f"{out} is where the certificate would go", "name the kubeconfig otherwise, or add --embed")
    path = Path(out or f"{user.replace('/', '_')}.kubeconfig")
    state, now = State(session.state), datetime.now(UTC)
    with session.console.step("kubeconfig") as tell, running(session, state, tell, issuing=False) as cluster:
        pair = person.issued(who, state, now, session.passphrase)
        if embed:
            whole = person.kubeconfig(session.inventory, cluster.credentials, who, pair).data
            files = {path: whole}
        else:
            client, trusted = path.with_suffix(".pem"), path.with_suffix(".ca.crt")
            named = person.naming(session.inventory, who, client.name, trusted.name).data
            files = {path: named, client: pair.data, trusted: cluster.credentials.trusts["kubernetes"].bundle.encode()}
        people.give(state, person.access(who, pair, cluster.credentials), now)  # before anybody has it
        if out == "-":
            session.console.result(whole.decode().rstrip())
        else:
            _create(files)
        try:
            rules = [f"may {line}" for line in person.may(cluster, pair)]
        except Mistake as mistake:  # it is issued all the same: whoever repairs the API may need it
            rules = [f"what it allows is not known now: {'; '.join(map(str, mistake.findings))}"]
    of = f" of {group}" if group else ""
    tell(f"{'' if out == '-' else f'{path}: '}{user}{of} until {now + who.lifetime:%Y-%m-%d %H:%M} UTC, and nothing can revoke it before")
    for line in rules:
        tell(line)
    if not rules:
        name, subject = shlex.quote(f"{group or user}-view"), shlex.quote(f"--group={group}" if group else f"--user={user}")
        tell("may nothing yet, but ask what the API offers; to let it read, for instance:")
        tell(f"  ./inv kubectl -- create clusterrolebinding {name} --clusterrole=view {subject}")


def _create(files: Mapping[Path, bytes]) -> None:
    """New files that only their owner can read; what is there already is not overwritten."""
    if there := [str(path) for path in files if path.exists()]:
        raise Mistake.at(there[0], "is there already", "name another file by --out, or remove it")
    for path, data in files.items():
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
        except OSError as error:
            raise Mistake.at(str(path), f"cannot be written: {error.strerror}") from None
