"""pod-network: routes to the other nodes' Pods, and masquerading of what leaves the cluster."""

from __future__ import annotations

from hardway.components.daemon import Draft, config, unit
from hardway.desired import Component, Gate, Live, Needs, Roll, Trace
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

# Marks our routes in the kernel's table; iproute2 names none with this number: https://github.com/iproute2/iproute2/blob/main/etc/iproute2/rt_protos
PROTOCOL = 86
TABLE = "hardway-pod-network"


def routes(inventory: Inventory, host: Host) -> dict[str, str]:
    """Range -> address of the node that has it, for every worker but the host itself."""
    return {str(other.pod_range): str(other.address) for other in inventory.on("worker") if other.name != host.name and other.pod_range}


def routed(live: Live, host: Host) -> str | None:
    """None if the host's table has our routes and no others of ours; else what differs."""
    lines = live.run(host, "ip", "-4", "route", "show", "proto", str(PROTOCOL)).splitlines()
    found = {words[0]: words[2] for words in (line.split() for line in lines) if words[1:2] == ["via"]}
    wanted = routes(live.inventory, host)
    differ = sorted(found.items() ^ wanted.items())
    return f"the routes to {', '.join(dict(differ))} are not as they should be" if differ else None


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a host that reaches Pods carries of it."""
    # Whoever has these routes sees a Pod's own address; for all others the node stands in.
    reached = [inventory.networks.pod_cidr, *(other.address for other in inventory.on("controller", "worker"))]
    return (
        config("pod-network", "routes.sh", values={"routes": routes(inventory, host), "protocol": PROTOCOL}),
        config("pod-network", "masquerade.nft", values={"reached": reached}),
        unit("pod-network", inventory),
    )


COMPONENT = Component(
    name="pod-network",
    leaves=(Trace("table", f"ip {TABLE}"), Trace("routes", str(PROTOCOL))),
    on=("controller", "worker"),
    wanted=lambda inventory: inventory.network == "bridge" and bool(inventory.on("worker")),
    files=files,
    packages=("ip", "nft"),
    needs=lambda _: Needs(modules=("nf_tables", "nft_chain_nat", "nft_masq")),
    roll=Roll(at_once=16, gates=(Gate(name="routed", ask=routed, within=10, command=True),)),
)
