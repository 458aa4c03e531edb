"""Measures how long the PKI of a large cluster takes: `.venv/bin/python -m bench.pki [workers]`, from the root of the repository."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.pki import declared, issue
from hardway.pki.credentials import credentials
from hardway.pki.pair import leaf, root
from hardway.pki.request import requests
from hardway.state import State

WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
LOOPS = 50  # certificates that the loop makes; each takes as long as the one before
# As a script of one's own would, and for the same keys.
LOOP = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 3650 -subj /CN=ca 2>/dev/null
for n in $(seq "$1"); do
  openssl ecparam -name prime256v1 -genkey -noout -out "$n.key"
  openssl req -new -key "$n.key" -subj "/CN=system:node:worker-$n/O=system:nodes" -addext subjectAltName=DNS:worker-$n -out "$n.csr"
  openssl x509 -req -in "$n.csr" -CA ca.pem -CAkey ca.key -days 365 -copy_extensions copy -out "$n.pem" 2>/dev/null
done
"""


def measured(what: str, act: Callable[[], object]) -> float:
    """Print what one act costs, of the clock and of the processor; the seconds by the clock."""
    wall, processor = time.perf_counter(), time.process_time()
    act()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{what:<64} {wall:6.2f} s, {processor:6.2f} s of one core")
    return wall


def large(workers: int) -> Inventory:
    """Three controllers and so many workers."""
    first = IPv4Address("10.0.0.1")
    hosts = (
        *(Host(name=f"controller-{n}", address=first + n, roles=frozenset({"controller"})) for n in range(3)),
        *(Host(name=f"worker-{n}", address=first + 10 + n, roles=frozenset({"worker"})) for n in range(workers)),
    )
    networks = Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.128.0.0/12"))
    return Inventory(cluster="bench", hosts=hosts, networks=networks, endpoint=Endpoint(loadbalancer="none", address=first))


def main() -> None:
    """Sign, write, check again and lay out; and the same by a loop over openssl."""
    now, declarations, inventory = datetime.now(UTC), declared.load(Path("certs")), large(WORKERS)
    wanted = requests(declarations, inventory)
    signer = root("bench", keys="ec", days=3650, now=now)
    what = f"{len(wanted)} certificates, for 3 controllers and {WORKERS} workers"

    measured(f"{what}: in memory", lambda: [leaf(request, signer, now=now).pem for request in wanted])
    with tempfile.TemporaryDirectory() as directory:
        state = State(Path(directory) / "state")
        ours = measured(f"{what}: the whole PKI", lambda: issue.ensure(declarations, inventory, state, now))
        measured(f"{what}: nothing to do", lambda: issue.ensure(declarations, inventory, state, now))
        measured(f"{what}: laid out", lambda: credentials(declarations, inventory, state))
    with tempfile.TemporaryDirectory() as directory:
        loop = measured(
            f"{LOOPS} by a loop over openssl", lambda: subprocess.run(["sh", "-ec", LOOP, "sh", str(LOOPS)], cwd=directory, check=True)
        )
    print(f"that loop would take {loop / LOOPS * len(wanted):.0f} s for all of them: {loop / LOOPS * len(wanted) / ours:.0f} times as long")


if __name__ == "__main__":
    main()
