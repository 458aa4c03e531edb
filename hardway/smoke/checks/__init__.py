"""The checks, one module for each component and one for what several share; each proves one statement."""

from hardway.components import ALL
from hardway.desired import Check
from hardway.smoke.checks import etcd, kube_apiserver, kube_controller_manager, kube_scheduler, sockets, unit

CHECKS: tuple[Check, ...] = (
    *(unit.check(component) for component in ALL),
    *kube_apiserver.CHECKS,
    *etcd.CHECKS,
    *sockets.CHECKS,
    *kube_scheduler.CHECKS,
    *kube_controller_manager.CHECKS,
)

__all__ = ["CHECKS"]
