"""kube-scheduler: assigns Pods to nodes; one instance leads."""

from __future__ import annotations

from functools import partial

from hardway.components import kube_apiserver
from hardway.components.daemon import TLS_CIPHER_SUITES, Draft, config, daemon, kubeconfig, unit, user
from hardway.components.lease import gates, leader, version
from hardway.desired import Component, Needs, Roll, Serving
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

PORT = 10259


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a controller carries of the scheduler."""
    return (
        user("kube-scheduler"),
        daemon("kube-scheduler"),
        # Its own host's API server, as kubeadm does: it goes down and comes up with it, and needs no balancer.
        kubeconfig("kube-scheduler", kube_apiserver.url(host)),
        config("kube-scheduler", "config.yaml"),
        unit("kube-scheduler", inventory, tls_cipher_suites=TLS_CIPHER_SUITES),
    )


COMPONENT = Component(
    name="kube-scheduler",
    on=("controller",),
    files=files,
    programs=("kube-scheduler",),
    serves=(Serving(certificate="kube-scheduler-serving", port=PORT, loopback=True),),
    needs=lambda _: Needs(ports=(PORT,), memory=60),
    roll=Roll(gates=gates("kube-scheduler", PORT)),
    version=partial(version, PORT),
    leader=partial(leader, "kube-scheduler"),
)
