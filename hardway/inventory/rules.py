"""The rules that span several fields of an inventory, and what is allowed yet worth a warning."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import combinations

from hardway.errors import Finding
from hardway.inventory.draft import Draft
from hardway.inventory.values import Endpoint, Inventory, Networks

API_PORT = 6443  # where each API server listens; the endpoint's port may be another one
TAKEN = {2379: "etcd", 2380: "etcd", API_PORT: "kube-apiserver", 10257: "kube-controller-manager", 10259: "kube-scheduler"}


def check(draft: Draft) -> Iterator[Finding]:
    """Every rule that is broken."""
    if draft.networks:
        yield from _sizes(draft, draft.networks)
        yield from _overlaps(draft, draft.networks)
        yield from _places(draft, draft.networks)
    yield from _duplicates(draft)
    for name, host in draft.hosts.items():
        if host.lab and not draft.lab:
            what = "the other hosts are yours: a lab has all hosts of a cluster, or none"
            yield Finding(
                where=draft.where("hosts", name, "lab"), what=what, next_step=f"write `lab: {host.lab}` at the top, or take it away here"
            )
    if draft.kubelet and draft.kubelet.tls == "bootstrap" and draft.csr_signer == "none":
        what = "a kubelet that asks for its certificate needs somebody who signs it, and csr_signer is none"
        yield Finding(where=draft.where("kubelet", "tls"), what=what, next_step="take issued, or `csr_signer: controller-manager`")
    if draft.every_host:
        if not _with(draft, "controller"):
            yield Finding(
                where=draft.where("hosts"), what="no host is a controller", next_step="give one, three or five hosts the role controller"
            )
        if draft.endpoint:
            yield from {"haproxy": _haproxy, "external": _no_balancers, "none": _none}[draft.endpoint.loadbalancer](draft, draft.endpoint)


def warnings(inventory: Inventory) -> tuple[Finding, ...]:
    """What works and is seldom meant."""
    return tuple(_warnings(inventory))


def _warnings(inventory: Inventory) -> Iterator[Finding]:
    controllers = len(inventory.on("controller"))
    if controllers % 2 == 0:
        what = f"{controllers} controllers: etcd survives no more failures than with {controllers - 1}"
        yield Finding(where="hosts", what=what, next_step=f"take {controllers - 1} or {controllers + 1}")
    if not inventory.versions.kubernetes.startswith(("1.36.", "1.37.")):
        what = f"Kubernetes {inventory.versions.kubernetes} was not tried"
        yield Finding(where="versions.kubernetes", what=what, next_step="1.36 and 1.37 were")


def _sizes(draft: Draft, networks: Networks) -> Iterator[Finding]:
    if not 12 <= networks.service_cidr.prefixlen <= 28:  # the API server's own limit is /12; DNS has the tenth address
        where = draft.where("networks", "service_cidr")
        yield Finding(where=where, what=f"{networks.service_cidr} has the wrong size", next_step="take one from /12 to /28")
    if not 8 <= networks.pod_cidr.prefixlen <= 24:  # each node has a /24 of it, and the allocator's bitmap ends at 16 bits
        where = draft.where("networks", "pod_cidr")
        yield Finding(where=where, what=f"{networks.pod_cidr} has the wrong size", next_step="take one from /8 to /24: a node has a /24")


def _overlaps(draft: Draft, networks: Networks) -> Iterator[Finding]:
    named = [(name, network) for name in ("host_cidr", "service_cidr", "pod_cidr") if (network := getattr(networks, name))]
    for (name, network), (other, with_network) in combinations(named, 2):
        if network.overlaps(with_network):
            what = f"{with_network} overlaps {name} {network}"
            yield Finding(where=draft.where("networks", other), what=what, next_step="take networks that are apart")


def _places(draft: Draft, networks: Networks) -> Iterator[Finding]:
    if draft.lab and not networks.host_cidr:
        where = draft.where("networks", "host_cidr")
        yield Finding(where=where, what="is missing", next_step="the lab makes this network: write one, such as 10.240.0.0/24")
    addresses: list[tuple[tuple[str | int, ...], IPv4Address]] = [
        (("hosts", name, "address"), host.address) for name, host in draft.hosts.items()
    ]
    if draft.endpoint:
        addresses.append((("endpoint", "address"), draft.endpoint.address))
    addresses += [(("networks", "nameservers", i), address) for i, address in enumerate(networks.nameservers or ())]
    for at, address in addresses:
        for name, network in (("service_cidr", networks.service_cidr), ("pod_cidr", networks.pod_cidr)):
            if address in network:
                yield Finding(where=draft.where(*at), what=f"{address} is in {name} {network}", next_step="keep machines out of it")
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            yield Finding(
                where=draft.where(*at), what=f"{address} is no address of a machine", next_step="write one that the others can reach"
            )
        elif draft.lab and networks.host_cidr and at[0] == "hosts":
            if address not in networks.host_cidr:
                what = f"{address} is not in host_cidr {networks.host_cidr}"
                yield Finding(where=draft.where(*at), what=what, next_step="the lab gives its hosts addresses of that network only")
            elif address in (networks.host_cidr[0], networks.host_cidr[1], networks.host_cidr[-1]):
                what = f"{address} is the network's, the bridge's or the broadcast address"
                yield Finding(where=draft.where(*at), what=what, next_step="take one between")


def _duplicates(draft: Draft) -> Iterator[Finding]:
    first: dict[object, str] = {}
    for name, host in draft.hosts.items():
        if (taken := first.setdefault(host.address, name)) != name:
            what = f"{host.address} is the address of {taken} too"
            yield Finding(where=draft.where("hosts", name, "address"), what=what, next_step="give each host its own")


def _with(draft: Draft, role: str) -> list[str]:
    return [name for name, host in draft.hosts.items() if role in host.roles]


def _haproxy(draft: Draft, endpoint: Endpoint) -> Iterator[Finding]:
    balancers = _with(draft, "loadbalancer")
    if not balancers:
        what, next_step = "haproxy needs a host for it", "give one the role loadbalancer"
        yield Finding(where=draft.where("endpoint", "loadbalancer"), what=what, next_step=next_step)
        return
    if len(balancers) > 1:
        what = f"{' and '.join(balancers)} are balancers: an address that moves between them is not ours to make"
        yield Finding(where=draft.where("hosts", balancers[1], "roles"), what=what, next_step="take one, or `loadbalancer: external`")
        return
    (name,) = balancers
    host = draft.hosts[name]
    if endpoint.address != host.address:
        what = f"{endpoint.address} is not the balancer's address"
        yield Finding(where=draft.where("endpoint", "address"), what=what, next_step=f"{name} has {host.address}")
    if "controller" in host.roles and endpoint.port in TAKEN:
        what = f"{endpoint.port} is {TAKEN[endpoint.port]}'s port on {name}, which is controller and balancer"
        yield Finding(where=draft.where("endpoint", "port"), what=what, next_step="take another one, such as 8443")


def _none(draft: Draft, endpoint: Endpoint) -> Iterator[Finding]:
    yield from _no_balancers(draft, endpoint)
    controllers = _with(draft, "controller")
    if len(controllers) > 1:
        what = f"{len(controllers)} controllers need a balancer"
        yield Finding(where=draft.where("endpoint", "loadbalancer"), what=what, next_step="take haproxy or external, or one controller")
    elif controllers:
        (name,) = controllers
        if endpoint.address != (address := draft.hosts[name].address):
            what = f"{endpoint.address} is not the controller's address"
            yield Finding(where=draft.where("endpoint", "address"), what=what, next_step=f"{name} has {address}")
        if endpoint.port != API_PORT:
            what = f"{endpoint.port} is not the port of the API server"
            yield Finding(where=draft.where("endpoint", "port"), what=what, next_step=f"without a balancer it is {API_PORT}")


def _no_balancers(draft: Draft, endpoint: Endpoint) -> Iterator[Finding]:
    for name in _with(draft, "loadbalancer"):
        what = f"{name} is a balancer, and endpoint.loadbalancer is {endpoint.loadbalancer}"
        yield Finding(where=draft.where("hosts", name, "roles"), what=what, next_step="take haproxy, or the role away")
