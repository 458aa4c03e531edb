"""Measures a push of many hosts, each a directory: `.venv/bin/python -m bench.many [workers]`, from the root of the repository."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hardway.push import push, survey
from tests.many.site import Site, alone, inventory, over
from tests.remote.sshd import start

WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 96
MIB = 1 << 10  # of what getrusage counts in


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print what a step costs, of the clock and of the processor by ourselves, and the threads and the memory at its end."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB
    print(f"{what:<44} {wall:6.2f} s, {processor:6.2f} s of one core, {threading.active_count()} threads, peak {peak} MiB")


def main() -> None:
    """Lay out the hosts, look at them all, and change a flag of every worker's kubelet."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        alone(patch)
        base = Path(directory)
        with measured(f"{WORKERS + 4} hosts, certificates and files"):
            site = Site.made(base, inventory(WORKERS))
        (base / "sshd").mkdir()
        server = start(base / "sshd", f"MaxStartups 500\nSetEnv PATH={site.fakes['lb-1'].base / 'bin'}:{os.environ['PATH']}\n")
        try:
            reached = replace(site, reach=over(server))
            pushed(reached, "a push with nothing to do", 0)
            pushed(replace(reached, inventory=replace(site.inventory, flags={"kubelet": {"v": "1"}})), "a flag of every worker", 0)
            pushed(replace(reached, inventory=replace(site.inventory, flags={"kubelet": {"v": "2"}})), "the same, 32 at a time", 32)
        finally:
            server.stop()


def pushed(site: Site, what: str, parallel: int) -> None:
    """Survey and push."""
    with site.cluster() as cluster:
        with measured(f"{what}: looked at"):
            found = survey(cluster, site.programs)
        with measured(f"{what}: {found.changes} changes"):
            push(cluster, found, lambda _: None, parallel=parallel)


if __name__ == "__main__":
    main()
