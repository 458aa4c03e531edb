"""kube-proxy: what goes to a Service reaches its Pods, from everywhere, for as long as there is that Service."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from hardway.components.kube_proxy import COMPONENT
from hardway.desired import Check, Permission, Stage
from hardway.smoke import callers, pods
from hardway.smoke.callers import Caller, Fleet
from hardway.smoke.removal import NODES
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Skipped, eventually, require

PORT = 80
TIMES = 16  # connections for each Pod behind a Service: with three, one in 10^8 runs misses a Pod by chance
STICKY = 10  # to a Service that remembers its clients
AT_ONCE = 8  # callers
KNOWN = 30.0  # seconds until every node has a new Service's rules, or has them no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service in front of the fleet."""

    name: str
    path: str
    address: str
    node_port: int = 0

    def at(self, addresses: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
        """Where it is reached: at these nodes, if it has a port of theirs, else at its own address."""
        return tuple((address, self.node_port) for address in addresses) if self.node_port else ((self.address, PORT),)


def clusterip(stage: Stage) -> str:
    """Reach two Services by their own addresses."""
    return "\n".join(_proved(stage, "ClusterIP", ()))


def nodeport(stage: Stage) -> str:
    """Reach two Services by a port that every node has for each, also from a host that is no node."""
    fleet = callers.fleet(stage)
    outside = next((host for host in stage.inventory.on("controller") if "worker" not in host.roles), None)
    more = (callers.of_host(stage, outside),) if outside else ()
    return "\n".join(_proved(stage, "NodePort", _addresses(stage, fleet), more))


def service(stage: Stage, fleet: Fleet, *, name: str = "", **fields: object) -> Service:
    """Put a Service in front of the fleet."""
    path = f"/api/v1/namespaces/{stage.namespace}/services"
    port = {"name": "http", "port": PORT, "targetPort": pods.NETEXEC}
    spec = {"selector": fleet.selector, "ports": [port], **fields}
    made = stage.create(path, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name or unique("service")}, "spec": spec})
    name, made = made["metadata"]["name"], made["spec"]
    return Service(name=name, path=f"{path}/{name}", address=made["clusterIP"], node_port=made["ports"][0].get("nodePort", 0))


def _proved(stage: Stage, kind: str, addresses: tuple[str, ...], more: tuple[Caller, ...] = ()) -> Iterator[str]:
    fleet = callers.fleet(stage)
    who = (*more, *callers.of_nodes(stage, fleet), *callers.of_pods(stage, fleet))
    plain, sticky = service(stage, fleet, type=kind), service(stage, fleet, type=kind, sessionAffinity="ClientIP")

    def reaches(caller: Caller) -> str:
        spread = [_spread(stage, caller, address, port, fleet) for address, port in plain.at(addresses)]
        stuck = [_stuck(stage, caller, address, port) for address, port in sticky.at(addresses)]
        return f"{caller.name}: {'; '.join(spread + stuck)}"

    def misses(caller: Caller) -> None:
        for address, port in plain.at(addresses):
            gone = partial(_still, caller, address, port)
            eventually(stage, f"{address}:{port} to be gone for {caller.name}", gone, within=KNOWN, look=caller.look)

    yield f"{kind} {plain.name}, and {sticky.name} with sessionAffinity ClientIP, in front of {', '.join(fleet.backends)}"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(reaches, who)
        for one in (plain, sticky):
            require(stage.request("DELETE", one.path), f"the Service {one.name} to be deleted")
        list(pool.map(misses, who))
    yield "both deleted: nobody answers there any more to any of them"
    if not stage.inventory.hosts:
        yield "the nodes themselves are not asked on a cluster that is not ours"


def _reached(stage: Stage, caller: Caller, address: str, port: int) -> None:
    expected = f"{caller.name} to reach {address}:{port}"
    eventually(stage, expected, lambda: caller.get(address, port).error or None, within=KNOWN, look=caller.look)


def _spread(stage: Stage, caller: Caller, address: str, port: int, fleet: Fleet) -> str:
    """How connections are spread over all Pods."""
    _reached(stage, caller, address, port)
    times = TIMES * len(fleet.backends)
    heard = caller.get(address, port, times)
    if heard.error or set(heard.answers) != set(fleet.backends):
        wanted = f"{times} connections of {caller.name} to {address}:{port} to reach each of {', '.join(fleet.backends)}"
        raise Failed(wanted, str(heard), caller.look)
    return f"{address}:{port} {heard}"


def _stuck(stage: Stage, caller: Caller, address: str, port: int) -> str:
    """Who has answered all connections of one client."""
    _reached(stage, caller, address, port)
    heard = caller.get(address, port, STICKY)
    if heard.error or len(set(heard.answers)) != 1:
        raise Failed(f"{STICKY} connections of {caller.name} to {address}:{port} to reach one Pod", str(heard), caller.look)
    return f"{address}:{port} {heard}"


def _still(caller: Caller, address: str, port: int) -> str | None:
    heard = caller.get(address, port, within=callers.SHORT)
    return None if heard.error else f"{heard.answers[0]} still answers"


def _addresses(stage: Stage, fleet: Fleet) -> tuple[str, ...]:
    """Those of the fleet's nodes."""
    on = {pod["spec"]["nodeName"] for pod in fleet.pods}
    items = require(stage.api(NODES), "nodes to be listed").json()["items"]
    found = {item["metadata"]["name"]: item["status"].get("addresses", ()) for item in items if item["metadata"]["name"] in on}
    internal = tuple(one["address"] for name in sorted(found) for one in found[name] if one["type"] == "InternalIP")
    if not internal:
        raise Skipped("no node says its address")
    return internal


PERMISSIONS = (*callers.NEEDS, Permission(resource="services", verbs=("create", "delete")))

CHECKS = (
    Check(
        name="proxy.clusterip",
        component=COMPONENT.name,
        proves="a Service's address leads from nodes and from Pods to all its Pods, or to one by session affinity, until it is deleted",
        run=clusterip,
        permissions=PERMISSIONS,
        first=True,
        sabotage="kube-proxy on a worker is stopped, and does not see the Service come",
    ),
    Check(
        name="proxy.nodeport",
        component=COMPONENT.name,
        proves="a Service's port on every node leads from anywhere to all its Pods, or to one by session affinity, until it is deleted",
        run=nodeport,
        permissions=PERMISSIONS,
        sabotage="a worker drops what would be sent on to one of the Pods",
    ),
)
