"""kube-proxy: makes a node redirect what goes to a Service to one of its Pods."""

from __future__ import annotations

from hardway.components.daemon import Draft, config, daemon, kubeconfig, unit
from hardway.desired import Component, Gate, Live, Needs, Roll, Trace
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

HEALTH_PORT = 10256
METRICS_PORT = 10249


def healthy(live: Live, host: Host) -> str | None:
    """None if it has brought the kernel's rules up to date; else what it says."""
    probe = "exec 3<>/dev/tcp/127.0.0.1/$1 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3"
    said = live.run(host, "bash", "-c", probe, "bash", str(HEALTH_PORT))
    return None if " 200 " in said else f"/healthz says {said.strip()}"


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
    needs=needs,
    roll=Roll(at_once=4, gates=(Gate(name="healthy", ask=healthy, within=60),)),
)
