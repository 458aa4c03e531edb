"""Requests of a rotation to the API; any other answer than the one that is right is a Mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardway.desired import Answer
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote.cluster import Cluster

TOKENS = "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fservice-account-token"


def got(cluster: Cluster, path: str, *, host: Host | None = None) -> Any:
    """What is there, by one host's API server or through the endpoint."""
    return _right(cluster.api(path, host=host), path.partition("?")[0], 200)


def done(cluster: Cluster, method: str, path: str, body: Mapping[str, Any], wanted: int) -> Any:
    """What comes back of a change."""
    return _right(cluster.request(method, path, body), path, wanted)


def _right(answer: Answer, path: str, wanted: int) -> Any:
    if answer.status != wanted:
        raise Mistake.at(path, f"the API answers {answer.status}", "run it again")
    return answer.json()
