"""node-kernel: the modules and settings of the kernel without which no Pod runs."""

from __future__ import annotations

from hardway.components.daemon import Draft, config, unit
from hardway.desired import Component, Gate, Live, Needs, Roll
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

MODULES = ("overlay", "br_netfilter", "nf_conntrack")
# A bridge's traffic passes the rules of kube-proxy, or a Pod does not reach a Service that is served on its own node.
SETTINGS = {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1", "net.bridge.bridge-nf-call-ip6tables": "1"}


def is_set(live: Live, host: Host) -> str | None:
    """None if the kernel has every setting; else the first that it has not."""
    for name, value in SETTINGS.items():
        path = f"/proc/sys/{name.replace('.', '/')}"
        try:
            found = live.run(host, "cat", path).strip()
        except Mistake:
            return f"the kernel has no {name}"
        if found != value:
            return f"{name} is {found}"
    return None


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a worker carries of it."""
    return (
        config("node-kernel", "modules.conf", values={"modules": MODULES}),
        config("node-kernel", "sysctl.conf", values={"settings": SETTINGS}),
        unit("node-kernel", inventory),
    )


COMPONENT = Component(
    name="node-kernel",
    on=("worker",),
    files=files,
    packages=("kmod",),
    needs=lambda _: Needs(modules=MODULES, settings=SETTINGS),
    roll=Roll(at_once=16, gates=(Gate(name="set", ask=is_set, within=10, command=True),)),
)
