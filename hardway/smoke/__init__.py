"""Checks that prove a running cluster to people, statement by statement."""

from hardway.components import ALL
from hardway.desired import Check
from hardway.smoke import etcd, kube_apiserver, kube_controller_manager, kube_scheduler, sockets, unit
from hardway.smoke.report import Report, Result
from hardway.smoke.runner import smoke
from hardway.smoke.stage import ClusterStage, Kubectl
from hardway.smoke.verdict import Failed, Skipped

CHECKS: tuple[Check, ...] = (
    *(unit.check(component) for component in ALL),
    *kube_apiserver.CHECKS,
    *etcd.CHECKS,
    *sockets.CHECKS,
    *kube_scheduler.CHECKS,
    *kube_controller_manager.CHECKS,
)

__all__ = ["CHECKS", "ClusterStage", "Failed", "Kubectl", "Report", "Result", "Skipped", "smoke"]
