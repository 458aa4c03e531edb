"""Every component in the order of installation. Adding one: its module, its unit, its templates, one entry here."""

from hardway.components import (
    containerd,
    coredns,
    etcd,
    kube_apiserver,
    kube_apiserver_lb,
    kube_controller_manager,
    kube_proxy,
    kube_scheduler,
    kubelet,
    metrics_server,
    node_kernel,
    pod_network,
    preloaded_images,
    unfinished_push,
)
from hardway.desired import Component
from hardway.inventory import Host, Inventory

ALL: tuple[Component, ...] = (
    unfinished_push.COMPONENT,
    etcd.COMPONENT,
    kube_apiserver.COMPONENT,
    kube_apiserver_lb.COMPONENT,
    kube_controller_manager.COMPONENT,
    kube_scheduler.COMPONENT,
    node_kernel.COMPONENT,
    pod_network.COMPONENT,
    containerd.COMPONENT,
    preloaded_images.COMPONENT,
    kubelet.COMPONENT,
    kube_proxy.COMPONENT,
    coredns.COMPONENT,
    metrics_server.COMPONENT,
)


def installed(inventory: Inventory, host: Host) -> tuple[Component, ...]:
    """What runs on a host, in the order of installation."""
    return tuple(component for component in ALL if host in component.hosts(inventory))
