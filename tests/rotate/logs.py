"""Audit logs as API servers write them, in directories of this machine; what a host runs is run here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hardway.inventory import Host, Inventory
from hardway.pki.credentials import Credentials
from hardway.rotate import audited

LOGS = "/var/log/kube-apiserver"


def event(user: str, credential: str, at: datetime, **more: Any) -> dict[str, Any]:
    """One line of a log, its fields in the order of audit.k8s.io/v1."""
    extra = {audited.USED: [credential], **more.pop("extra", {})}
    annotations = {"authorization.k8s.io/decision": "allow", **more.pop("annotations", {})}
    return {
        "kind": "Event",
        "level": "Metadata",
        "auditID": "1",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/pods",
        "verb": "list",
        "user": {"username": user, "groups": ["system:authenticated"], "extra": extra},
        "sourceIPs": ["10.0.0.5"],
        "userAgent": "kubectl/v1.37.2 (linux/amd64)",
        "responseStatus": {"metadata": {}, "code": 200},
        **more,
        "requestReceivedTimestamp": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "stageTimestamp": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "annotations": annotations,
    }


@dataclass
class Logged:
    """A cluster of which only the logs are asked for, and when its daemons have begun with their keys."""

    root: Path
    inventory: Inventory
    credentials: Credentials
    began: Mapping[str, int] = field(default_factory=dict)  # by the key's file, in seconds

    def log(self, host: str, *events: Mapping[str, Any], name: str = "audit.log", age: float = 0) -> None:
        path = self.root / host / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in events)
        if age:
            os.utime(path, (path.stat().st_mtime - age,) * 2)

    def run(self, host: Host, *argv: str) -> str:
        if argv[2] != audited.READ:
            return f"{self.began[argv[4]]}\n"
        directory = self.root / host.name
        directory.mkdir(exist_ok=True)
        assert LOGS in argv
        words = [str(directory) if word == LOGS else word for word in argv]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout
