"""Each worker's share of the Pods' network: allotted once, kept in state/, so that everything renders before a node joins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network

from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.state import State

FILE = "pod-ranges.json"
PREFIX = 24  # of one node's range: 254 addresses, for 110 Pods

Ranges = Mapping[str, IPv4Network]  # by the worker's name


def kept(state: State) -> Ranges:
    """What was allotted so far, also to workers that have left the inventory and were not removed yet."""
    if not state.path(FILE).exists():
        return {}
    try:
        return {name: IPv4Network(text) for name, text in json.loads(state.read(FILE)).items()}
    except (ValueError, AttributeError) as error:
        raise Mistake.at(state.where(FILE), f"cannot be read: {error}", "put it back from a copy") from error


def keep(state: State, ranges: Ranges) -> None:
    """Write down what is allotted, if that is not there already."""
    if kept(state) != ranges:
        state.write(FILE, (json.dumps({name: str(ranges[name]) for name in sorted(ranges)}, indent=2) + "\n").encode())


def settle(state: State, inventory: Inventory) -> None:
    """Write down the ranges that an inventory was placed with; a Mistake if another run has given one of them away meanwhile."""
    with state.locked():
        before = kept(state)
        ours = {host.name: host.pod_range for host in inventory.on("worker") if host.pod_range}
        taken = {value: name for name, value in before.items()}
        for name, pod_range in ours.items():
            if before.get(name, pod_range) != pod_range or taken.get(pod_range, name) != name:
                raise Mistake.at(state.where(FILE), f"another run has allotted {name}'s range meanwhile", "run it again")
        keep(state, {**before, **ours})


def allot(inventory: Inventory, before: Ranges) -> Ranges:
    """What was allotted before, and the first range that is free for each worker that has none."""
    ranges = dict(before)
    network = inventory.networks.pod_cidr
    for host in inventory.on("worker"):
        if host.name not in ranges:
            taken = set(ranges.values())
            free = next((one for one in network.subnets(new_prefix=PREFIX) if one not in taken), None)
            if free is None:
                raise Mistake.at(
                    f"hosts.{host.name}", f"pod_cidr {network} has no range left for it", "take a larger network, or fewer workers"
                )
            ranges[host.name] = free
        if not ranges[host.name].subnet_of(network):
            what = f"{host.name} has {ranges[host.name]}, which is not in pod_cidr {network}: a node's range never changes"
            raise Mistake.at("networks.pod_cidr", what, "put the network back as it was, or make another cluster beside this one")
    return ranges


def placed(inventory: Inventory, ranges: Ranges) -> Inventory:
    """The inventory whose workers know their ranges."""
    return replace(inventory, hosts=tuple(replace(host, pod_range=ranges.get(host.name)) for host in inventory.hosts))
