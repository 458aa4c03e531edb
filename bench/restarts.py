"""Restarts a component again and again under load; what clients saw, and for how long each kind of them had to wait at most.

`.venv/bin/python -m bench.restarts kubelet 15`, from the root, after `./inv up`: so many times on each of its hosts, one after the other.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from hardway.inventory import load
from hardway.restart import named, restart
from hardway.state import State
from hardway.traffic import running as loaded
from hardway.verbs.program.console import Console
from hardway.verbs.program.running import running
from hardway.verbs.program.session import Session
from hardway.verbs.traffic import ours

LOAD = 0.4  # seconds of it between two rounds, so that they do not fall into step with the clients


def main() -> None:
    """A line, the causes of what failed, and the kinds that waited."""
    name, times = sys.argv[1], int(sys.argv[2])
    component = named(name)
    session = Session.of(load(Path("inventory.yaml")), Console())
    took: list[float] = []
    with running(session, State(session.state), print, issuing=False) as cluster, loaded(ours(session, print), print) as under:
        for _ in range(times):
            took.extend(restart(cluster, component, component.hosts(session.inventory), print).values())
            time.sleep(LOAD)
        report = under.finish()
    each = f"{min(took):.1f} to {max(took):.1f} s each"
    print(f"{name}: {len(took)} restarts, {each}, {report.document['requests']} requests, {report.visible} visible, {report.raw} raw")
    for (kind, cause), seen in Counter((one["kind"], one["cause"]) for one in report.failures).most_common():
        print(f"  {seen} times {kind}: {cause}")
    for kind, one in report.document["by_kind"].items():
        print(f"  {kind}: {one['requests']} requests, longest gap {one['longest_gap_ms']} ms")


if __name__ == "__main__":
    main()
