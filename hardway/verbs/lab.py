"""lab.up, lab.down, lab.ssh, lab.status."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session, passthrough

if TYPE_CHECKING:
    from hardway.inventory import Host


@task(auto_shortflags=False)
def up(c: Context) -> None:
    """Boot the lab's hosts; those that answer already are left alone."""
    from hardway.lab import hosts

    session = _session(c)
    with session.console.step("lab") as tell:
        hosts.up(session.inventory, session.state, tell)


@task(auto_shortflags=False)
def down(c: Context) -> None:
    """Remove the lab's hosts, and every trace of them on this machine."""
    from hardway.lab import hosts

    session = Session.open(c)  # also of a lab that the inventory has no more
    with session.console.step("lab") as tell:
        hosts.down(session.inventory, session.state, tell)


@task(auto_shortflags=False, positional=["host"], help={"host": "its name in the inventory"})
def ssh(c: Context, host: str) -> None:
    """Log in to a lab host, or run there what follows --."""
    from hardway.lab import hosts

    session = _session(c)
    argv = [*hosts.ssh(_host(session, host), session.state), *passthrough(c)]
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell; the terminal and the exit code are ssh's)
    except FileNotFoundError:
        raise Mistake.at("lab", "ssh is missing", "`apt-get install openssh-client`") from None


@task(auto_shortflags=False, help={"json": "for programs"})
def status(c: Context, json: bool = False) -> None:
    """Show how each host of the lab stands."""
    from hardway.lab import hosts

    session = _session(c)
    found = hosts.status(session.inventory, session.state)
    rows = [(host.name, str(host.address or "not in the inventory"), host.state, host.pid) for host in found]
    if json:
        columns = ("host", "address", "state", "pid")
        session.console.json({"schema": 1, "hosts": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        session.console.table(("host", "address", "state", "pid"), [(*row[:3], row[3] or "") for row in rows])


def _session(c: Context) -> Session:
    session = Session.open(c)
    if session.inventory.lab is None:
        raise Mistake.at("lab", "the inventory has none: its hosts are your own", "write `lab: nspawn` to have them made here")
    return session


def _host(session: Session, name: str) -> Host:
    hosts = {host.name: host for host in session.inventory.hosts}
    if name not in hosts:
        raise Mistake.at("lab.ssh", f"{name}: no such host", f"there are {', '.join(hosts)}")
    return hosts[name]
