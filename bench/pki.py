"""Measures how long certificates take: `.venv/bin/python -m bench.pki [leaves]`, from the root of the repository."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.pki import declared, issue
from hardway.pki.pair import leaf, root
from hardway.pki.request import requests
from hardway.state import State

LEAVES = int(sys.argv[1]) if len(sys.argv) > 1 else 1000


def measured(what: str, act: Callable[[], object]) -> None:
    """Print what one act costs, of the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    act()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{what:<44} {wall:6.2f} s, {processor:6.2f} s of one core")


def main() -> None:
    """Sign, write, check again and lay out as many certificates as asked for."""
    now = datetime.now(UTC)
    declarations = declared.load(Path("certs"))
    one = Inventory(
        cluster="bench",
        hosts=(Host(name="h-0", address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"})),),
        networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
        endpoint=Endpoint(loadbalancer="none", address=IPv4Address("10.0.0.1")),
    )
    each = sum(request.host is not None for request in requests(declarations, one))
    hosts = tuple(replace(one.hosts[0], name=f"h-{i}", address=one.hosts[0].address + i) for i in range(-(-LEAVES // each)))
    inventory = replace(one, hosts=hosts)
    wanted = requests(declarations, inventory)[:LEAVES]
    signer = root("bench", keys="ec", days=3650, now=now)

    measured(f"{len(wanted)} leaves, in memory", lambda: [leaf(request, signer, now=now).pem for request in wanted])
    with tempfile.TemporaryDirectory() as directory:
        state = State(Path(directory) / "state")
        files = len(requests(declarations, inventory))
        measured(f"{files} leaves, signed and written", lambda: issue.ensure(declarations, inventory, state, now))
        measured(f"{files} leaves, checked: nothing to do", lambda: issue.ensure(declarations, inventory, state, now))
        measured(f"{files} leaves, laid out over {len(hosts)} hosts", lambda: issue.credentials(declarations, inventory, state))


if __name__ == "__main__":
    main()
