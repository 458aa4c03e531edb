"""The lab's network: one bridge in the machine's own namespace, and the names of all devices."""

from __future__ import annotations

import hashlib
import json
import subprocess
from ipaddress import IPv4Network

from hardway.errors import Mistake


def device(*parts: str) -> str:
    """A device name for a cluster, or for a host of it: readable names do not fit into 15 characters."""
    return "hw-" + hashlib.sha256("/".join(parts).encode()).hexdigest()[:10]


def mac(*parts: str) -> str:
    """A locally administered address that stays the same, so that a reboot leaves nobody with a stale neighbour."""
    digest = hashlib.sha256("/".join(parts).encode()).hexdigest()
    return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])


def overlapping(network: IPv4Network, routes: str, own: str) -> str | None:
    """The first foreign route that a network overlaps, from `ip -json route`; routes of the device `own` are ours."""
    for route in json.loads(routes or "[]"):
        if route["dst"] == "default" or route.get("dev") == own:
            continue
        if network.overlaps(IPv4Network(route["dst"], strict=False)):
            return f"{route['dst']} (dev {route.get('dev', 'none')})"
    return None


def ip(*argv: str) -> str:
    """Run the program of iproute2."""
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Mistake.at(
            "lab",
            f"`ip {' '.join(argv)}` failed: {done.stderr.strip()}",
            "the lab wants a kernel with network namespaces, bridges and veth, and the right to make them",
        )
    return done.stdout


def exists(name: str) -> bool:
    """Whether there is such a device."""
    return subprocess.run(["ip", "link", "show", "dev", name], capture_output=True, check=False).returncode == 0


def check(cluster: str, network: IPv4Network) -> None:
    """Refuse a network that this machine already reaches another way."""
    if found := overlapping(network, ip("-json", "-4", "route", "show", "table", "main"), device(cluster)):
        raise Mistake.at(
            "networks.host_cidr", f"{network} overlaps the route {found} of this machine", "choose another network for the lab"
        )


def bridge(cluster: str, network: IPv4Network) -> bool:
    """Make the bridge, with the network's first address on it; whether it was missing."""
    name = device(cluster)
    missing = not exists(name)
    if missing:
        ip("link", "add", name, "address", mac(cluster), "type", "bridge", "forward_delay", "0")
    ip("link", "set", name, "alias", f"hardway lab: {cluster}", "up")
    ip("address", "replace", f"{network.network_address + 1}/{network.prefixlen}", "dev", name)
    return missing


def remove(name: str) -> None:
    """Remove a device, if it is there; a host's may go with its namespace at this moment."""
    if exists(name):
        try:
            ip("link", "delete", "dev", name)
        except Mistake:
            if exists(name):
                raise
