"""The places where somebody shows a client certificate, and as whom each takes who does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from hardway import proof
from hardway.components import ALL, etcd, kube_apiserver
from hardway.desired import Secret
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.pki import tls
from hardway.pki.declared import Authority
from hardway.proof import NOBODY
from hardway.remote.cluster import Cluster
from hardway.remote.http import Client

PROBE = "hardway:probe"  # who asks; no rule allows it anything
# In certs/, the bundle by which a daemon knows its clients has this name; the others are for servers.
CLIENTS = "client-ca.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One daemon on one host that asks for certificates of an authority."""

    host: Host
    daemon: str
    authority: str

    def __str__(self) -> str:
        return f"{self.daemon} on {self.host.name}"


def doors(authority: Authority, inventory: Inventory) -> tuple[Door, ...]:
    """Every place where certificates of an authority are shown."""
    return tuple(dict.fromkeys(_doors(authority, inventory)))


def _doors(authority: Authority, inventory: Inventory) -> Iterator[Door]:
    for place in authority.trusted_in:
        for reader in place.read_by:
            daemon = reader.removesuffix(".service")
            if place.path.name == CLIENTS or authority.authority in {daemon, "front-proxy"}:
                yield from (Door(host=host, daemon=daemon, authority=authority.authority) for host in inventory.on(place.role))


def shown_by(authority: Authority) -> str:
    """The name in a probe's certificate: the front proxy's own, or nobody's."""
    return "front-proxy-client" if authority.authority == "front-proxy" else PROBE


def seen_as(cluster: Cluster, door: Door, pair: Secret) -> str:
    """Who somebody with this certificate is to a daemon: PROBE, or NOBODY and why."""
    try:
        return _seen_as(cluster, door, pair)
    except Mistake as mistake:
        return f"{NOBODY}: {mistake.findings[0].what}"


def _seen_as(cluster: Cluster, door: Door, pair: Secret) -> str:
    host = door.host
    match door.daemon:
        case "etcd":  # each connection is let in or not
            answer = cluster.visit(f"https://{host.address}:{etcd.CLIENT_PORT}", "/health", pair=pair)
            return PROBE if answer.status == 200 else f"{NOBODY}: {answer.status}"
        case "kube-apiserver":
            client = Client(cluster.dial, tls.client(trusted=cluster.credentials.trusts["kubernetes"].bundle, pair=pair), retries=0)
            with closing(client):
                return proof.seen_as(client, kube_apiserver.url(host), named=PROBE if door.authority == "front-proxy" else "")
        case daemon:  # what it refuses it refuses by name
            serving = next(component.serves[0] for component in ALL if component.name == daemon)
            if serving.loopback:
                answer = cluster.local(host, serving.port, "/metrics", pair=pair)
            else:
                answer = cluster.visit(f"https://{host.address}:{serving.port}", "/metrics", pair=pair)
            return PROBE if PROBE.encode() in answer.body else f"{NOBODY}: {answer.status}"
