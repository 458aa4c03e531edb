"""kube-proxy: makes a node redirect what goes to a Service to one of its Pods."""

from __future__ import annotations

from hardway.components.daemon import Draft, config, daemon, kubeconfig, unit
from hardway.components.lease import build
from hardway.desired import Component, Gate, Live, Needs, Roll, Trace
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

HEALTH_PORT = 10256
METRICS_PORT = 10249


def healthy(live: Live, host: Host) -> str | None:
    """None if it has brought the kernel's rules up to date; else what it says."""
    answer = live.local(host, HEALTH_PORT, "/healthz", plain=True)
    return None if answer.status == 200 else f"/healthz says {answer.status}"


def version(live: Live, host: Host) -> str:
    """What the instance on a host says it is, by its metrics: it serves no /version."""
    answer = live.local(host, METRICS_PORT, "/metrics", plain=True)
    return build(answer, f"{host.name}:{METRICS_PORT}")


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a worker carries of kube-proxy."""
    return (
        daemon("kube-proxy"),
        kubeconfig("kube-proxy", inventory.server),
        config("kube-proxy", "config.yaml"),
        unit("kube-proxy", inventory),
    )


def needs(inventory: Inventory) -> Needs:
    """What a node has to have for it."""
    ports = (HEALTH_PORT, METRICS_PORT)
    if inventory.proxy_mode == "iptables":
        return Needs(ports=ports, memory=60)
    # https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables
    return Needs(ports=ports, memory=60, kernel=(5, 13), modules=("nf_tables", "nft_chain_nat", "nft_fib_ipv4", "nft_masq", "nft_numgen"))


COMPONENT = Component(
    name="kube-proxy",
    leaves=(Trace("table", "ip kube-proxy"), Trace("table", "ip6 kube-proxy"), Trace("chains", "KUBE-")),
    on=("worker",),
    files=files,
    programs=("kube-proxy",),
    packages=("nft", "conntrack"),
    version=version,
    needs=needs,
    roll=Roll(at_once=4, gates=(Gate(name="healthy", ask=healthy, within=60),)),
)
