"""Checks that prove a running cluster to people, statement by statement."""

from hardway.smoke.checks import CHECKS
from hardway.smoke.kubectl import Kubectl
from hardway.smoke.report import Report, Result
from hardway.smoke.runner import smoke
from hardway.smoke.stage import ClusterStage
from hardway.smoke.verdict import Failed, Skipped

__all__ = ["CHECKS", "ClusterStage", "Failed", "Kubectl", "Report", "Result", "Skipped", "smoke"]
