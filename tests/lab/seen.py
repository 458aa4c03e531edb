"""Load beside a test, and what its clients may see of a restart or a rotation: nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hardway.traffic import Beside, Report, running
from hardway.traffic.mix import PLAIN
from hardway.verbs.program.console import Console
from hardway.verbs.program.session import Session
from hardway.verbs.traffic import ours
from tests.lab.conftest import LabCluster

AROUND = 3.0  # seconds of load before and after what is done to the cluster


def wait(seconds: float) -> None:
    time.sleep(seconds)  # of load: what is measured is what happens in it


@contextmanager
def loaded(cluster: LabCluster) -> Iterator[Beside]:
    with running(ours(Session.of(cluster.inventory, Console()), print), print) as load:
        wait(AROUND)
        yield load


def finished(load: Beside) -> Report:
    wait(AROUND)
    report = load.finish()
    print(json.dumps(report.document, indent=1))
    return report


def not_seen(seen: Mapping[str, Any]) -> None:
    """By the clients of a verb; and all were busy."""
    failures = [one for one in seen["failures"] if one["visible"] and one["kind"] not in PLAIN]
    print(json.dumps(failures[:20], indent=1))
    assert failures == []
    assert seen["requests"] > 30 * seen["seconds"]
