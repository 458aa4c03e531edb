"""The checks, one module for each component and one for what several share; each proves one statement."""

from hardway.components import ALL
from hardway.desired import Check
from hardway.smoke.checks import (
    audit,
    certs,
    containerd,
    coredns,
    etcd,
    extension,
    kube_apiserver,
    kube_apiserver_lb,
    kube_controller_manager,
    kube_proxy,
    kube_scheduler,
    kubelet,
    loss,
    pods,
    sockets,
    strangers,
    unit,
    workloads,
)

CHECKS: tuple[Check, ...] = (
    *(unit.check(component) for component in ALL if component.on),
    *kube_apiserver.CHECKS,
    *kube_apiserver_lb.CHECKS,
    *strangers.CHECKS,
    *audit.CHECKS,
    *etcd.CHECKS,
    *sockets.CHECKS,
    *kube_scheduler.CHECKS,
    *kube_controller_manager.CHECKS,
    *kubelet.CHECKS,
    *containerd.CHECKS,
    *pods.CHECKS,
    *kube_proxy.CHECKS,
    *coredns.CHECKS,
    *extension.CHECKS,
    *certs.CHECKS,
    *workloads.CHECKS,
    *loss.CHECKS,
)

__all__ = ["CHECKS"]
