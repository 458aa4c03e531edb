"""Makes machines and cluster match: components in order, each host by its Plan, each step behind its gates."""

from hardway.push.gates import closed, wait
from hardway.push.roll import push, request, settled
from hardway.push.survey import Survey, observe, survey

__all__ = ["Survey", "closed", "observe", "push", "request", "settled", "survey", "wait"]
