"""What clients may see of a restart or a rotation under load: nothing, but for what etcd drops while its lead is handed over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hardway.traffic.mix import PLAIN

# Its leader proposes nothing then, for as long as two writes to a disk take. Who has asked that member is told at once, who has asked
# another waits for seven seconds; an API server answers either with 500.
DROPPED = ("raft proposal dropped", "etcdserver: request timed out, possibly due to previous leader failure")


def not_seen(seen: Mapping[str, Any], *words: str) -> None:
    """By the clients of a verb with these words; and all were busy."""
    failures = [one for one in seen["failures"] if one["visible"] and one["kind"] not in PLAIN]
    print(json.dumps(failures[:20], indent=1))
    dropped = [one for one in failures if "etcd" in words and one["cause"].endswith(DROPPED)]
    assert failures == dropped
    assert len(dropped) <= 3
    assert seen["requests"] > 30 * seen["seconds"]
