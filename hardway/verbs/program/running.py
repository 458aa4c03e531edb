"""From a session to the running cluster: credentials, machines, binaries."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from hardway import render
from hardway.binaries.fetch import CACHE, fetch
from hardway.binaries.flags import refuse_wrong
from hardway.components import ALL
from hardway.desired import Blob, Secret
from hardway.inventory import Inventory
from hardway.lab import hosts
from hardway.pki import declared, issue
from hardway.pki.credentials import credentials
from hardway.remote.cluster import Cluster
from hardway.remote.machine import Machine, Witness, unseen
from hardway.remote.protocol import ARCHITECTURES
from hardway.remote.ssh import Once, line
from hardway.state import State
from hardway.verbs.program.session import Session

Tell = Callable[[str], None]

KUBECONFIG = "admin.kubeconfig"
BOOTSTRAP_MINUTES = 10  # what the certificate for the first binding is good for


@contextmanager
def running(session: Session, state: State, tell: Tell, *, issuing: bool = True, witness: Witness = unseen) -> Iterator[Cluster]:
    """The cluster of a session, with what `state` holds as its credentials; whatever is missing there is issued, or refused."""
    inventory = session.inventory
    declarations = declared.load(session.certs)
    made = issue.ensure(declarations, inventory, state, datetime.now(UTC), unlock=session.passphrase, tell=tell) if issuing else ()
    for one in made[:3]:
        tell(f"issued {one}")
    if len(made) > 3:
        tell(f"issued {len(made) - 3} more keys and certificates")

    def masters() -> Secret:
        name, group, now = "hardway-bootstrap", "system:masters", datetime.now(UTC)
        return issue.short_lived(state, "kubernetes", name, group, BOOTSTRAP_MINUTES, now, session.passphrase)

    with machines(session, witness) as reached:
        cluster = Cluster(inventory, credentials(declarations, inventory, state), reached, masters)
        try:
            yield cluster
        finally:
            cluster.close()


@contextmanager
def machines(session: Session, witness: Witness = unseen) -> Iterator[Mapping[str, Machine]]:
    """The hosts of a session, each dialled at the first question to it."""
    # Paramiko tells its log of every refused connection; a gate that waits for a port makes many.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    identity, known_hosts = hosts.key(session.state) if session.inventory.lab else None, session.state / "known_hosts"
    ask = Once(session.console.ask)
    reached = {
        host.name: Machine(
            name=host.name,
            line=line(host, identity=identity, known_hosts=known_hosts, ask=ask),
            sudo=host.ssh.sudo,
            password=lambda: ask("the password for sudo on the hosts"),
            witness=witness,
        )
        for host in session.inventory.hosts
    }
    try:
        yield reached
    finally:
        for machine in reached.values():
            machine.close()


def needed(inventory: Inventory, arch: str) -> frozenset[str]:
    """What the hosts' components run; and kubectl, which runs here, if this machine can run what they run."""
    names = {name for component in ALL if component.hosts(inventory) for name in component.programs}
    return frozenset(names | ({"kubectl"} if arch == _here() else set()))


def _here() -> str | None:
    """The architecture of this machine's programs, if it is one that we have any for."""
    return ARCHITECTURES.get(platform.machine())


def programs(session: Session, tell: Tell, *, bring: bool = True) -> Callable[[str], Mapping[str, Blob]]:
    """The binaries of every component, by architecture; brought into the cache at the first question, or refused if they are not there."""
    found: dict[str, Mapping[str, Blob]] = {}

    def by_architecture(arch: str) -> Mapping[str, Blob]:
        if arch not in found:
            wanted, pins = needed(session.inventory, arch), session.state / "pins.json"
            brought = fetch(wanted, arch, session.inventory, CACHE, tell, pins=pins, bring=bring)
            if bring and arch == _here():
                refuse_wrong(session.inventory, brought, CACHE)
            found[arch] = {name: Blob(sha256=one.sha256, size=one.size, local=one.path) for name, one in brought.items()}
        return found[arch]

    return by_architecture


def write_kubeconfig(inventory: Inventory, cluster: Cluster, state: State) -> None:
    """Give the operator access, if what he has is not that already."""
    text = render.admin_kubeconfig(inventory, cluster.credentials).data
    if not state.path(KUBECONFIG).exists() or state.read(KUBECONFIG) != text:
        state.write(KUBECONFIG, text)
