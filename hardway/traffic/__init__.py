"""Load on a cluster, and what its clients see of it: the instrument that measures restarts and rotations."""

from hardway.traffic.report import KEYS, Report
from hardway.traffic.running import Beside, running
from hardway.traffic.settings import Settings

__all__ = ["KEYS", "Beside", "Report", "Settings", "running"]
