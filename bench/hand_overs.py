"""Moves etcd's lead under load, again and again, with API servers that stand still meanwhile and with ones that do not; what clients saw.

`.venv/bin/python -m bench.hand_overs`, from the root, after `./inv up`; with how many times after it, if not a hundred each.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from hardway.components import etcd, kube_apiserver
from hardway.inventory import load
from hardway.remote.cluster import Cluster
from hardway.state import State
from hardway.traffic import running as loaded
from hardway.verbs.program.console import Console
from hardway.verbs.program.running import running
from hardway.verbs.program.session import Session
from hardway.verbs.traffic import ours

LOAD = 0.5  # seconds of it between two


def moved(cluster: Cluster, *, still: bool) -> None:
    """Once, as a push does it, or without its precaution."""
    here = etcd.leader(cluster)
    heir = etcd.heir(cluster, here) if here else None
    if here is None or heir is None:
        raise SystemExit("no member leads, or it is alone")
    hosts = cluster.inventory.on("controller") if still else ()
    with cluster.paused(hosts, kube_apiserver.COMPONENT.unit) as paused:
        if paused != frozenset(hosts):
            raise SystemExit("not every API server stands still")
        etcd.hand_over(cluster, here, heir)
    time.sleep(LOAD)


def main() -> None:
    """A line for each way, and the causes of what failed."""
    times = int(sys.argv[1]) if sys.argv[1:] else 100
    session = Session.of(load(Path("inventory.yaml")), Console())
    with running(session, State(session.state), print, issuing=False) as cluster:
        for still in (False, True):
            with loaded(ours(session, print), print) as under:
                for _ in range(times):
                    moved(cluster, still=still)
                report = under.finish()
            causes = Counter(one["cause"] for one in report.failures)
            how = "API servers stand still" if still else "as it comes"
            print(f"{how}: {times} times, {report.document['requests']} requests, {report.visible} visible, longest gap {report.gap:.1f} s")
            for cause, seen in causes.most_common():
                print(f"  {seen} times {cause}")


if __name__ == "__main__":
    main()
