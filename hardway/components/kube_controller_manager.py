"""kube-controller-manager: the controllers; one instance leads."""

from __future__ import annotations

from functools import partial

from hardway.components import kube_apiserver
from hardway.components.daemon import TLS_CIPHER_SUITES, Draft, daemon, kubeconfig, unit, user
from hardway.components.lease import gates, leader, version
from hardway.desired import Component, Needs, Roll, Serving
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

PORT = 10257


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a controller carries of the controller manager."""
    return (
        user("kube-controller-manager"),
        daemon("kube-controller-manager"),
        # Its own host's API server, as kubeadm does: it goes down and comes up with it, and needs no balancer.
        kubeconfig("kube-controller-manager", kube_apiserver.url(host)),
        unit("kube-controller-manager", inventory, tls_cipher_suites=TLS_CIPHER_SUITES),
    )


COMPONENT = Component(
    name="kube-controller-manager",
    on=("controller",),
    files=files,
    programs=("kube-controller-manager",),
    serves=(Serving(certificate="kube-controller-manager-serving", port=PORT, loopback=True),),
    needs=lambda _: Needs(ports=(PORT,), memory=100),
    roll=Roll(gates=gates("kube-controller-manager", PORT)),
    version=partial(version, PORT),
    leader=partial(leader, "kube-controller-manager"),
)
