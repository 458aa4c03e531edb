"""A ConfigMap of a check's own: the simplest object that can be written and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardway.desired import Stage
from hardway.inventory import Host


def config_map(stage: Stage, name: str, data: Mapping[str, str] | None = None, *, host: Host | None = None) -> Mapping[str, Any]:
    """Write one through the endpoint, or through one host's API server."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {**(data or {})}}
    return stage.create(f"/api/v1/namespaces/{stage.namespace}/configmaps", body, host=host)
