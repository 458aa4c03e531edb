"""What a verb costs, by counts: connections, commands, bytes and processes on each host. More than that is a regression."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hardway.certs.renewal import bring
from hardway.pki import issue
from hardway.push import push, survey
from hardway.remote import protocol
from hardway.remote.cluster import Cluster
from tests.many.site import DECLARED, SHIPPED, Site, alone, inventory

SCRIPT = len(protocol.SCRIPT)  # which each command brings along
# The shell of a request as the first process of a namespace, which knows how many there have been when it ends.
COUNTED = """#!/bin/sh
exec unshare --map-root-user --pid --fork sh -c '
  log=$1; shift; "$@"; code=$?; echo "$(cat /proc/sys/kernel/ns_last_pid)" >>"$log"; exit $code
' sh "$(dirname "$0")/processes" dash "$@"
"""
OURS = 4  # the shell that counts, the one that is counted, a subshell, cat

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "--map-root-user", "--pid", "--fork", "true"], check=False, capture_output=True).returncode != 0,
    reason="no namespaces for us here",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one host was asked for."""

    commands: int
    sent: int  # bytes, without the script
    processes: int  # on the host, the shells themselves left out

    def within(self, commands: int, sent: int, processes: int) -> bool:
        """So many commands, and no more than that of the rest."""
        return self.commands == commands and self.sent <= sent and self.processes <= processes


# Seen, in November 2026: 595 to 2863 bytes and 40 to 44 processes. None of these is for one path or one unit, else there would be hundreds.
LOOK = (1, 3_000, 52)
# Seen: 33,711 bytes, most of them host.sh again, with which a power cut is healed; 99 processes. It is looked at, its old text is read,
# it is locked, changed and settled.
FLAG = (5, SCRIPT + 17_000, 112)
# Seen: 33,596 bytes and 88 processes. It is asked whether it answers, looked at, locked, changed and settled; a secret is not read.
RENEWAL = (5, SCRIPT + 17_000, 102)
ANSWERS = (2, 3_000, 54)  # a renewal asks first who answers


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The shipped inventory, on hosts that count."""
    with pytest.MonkeyPatch.context() as patch:
        alone(patch)
        made = Site.made(tmp_path, inventory(2))
        for fake in made.fakes.values():
            fake.program("counted", COUNTED)
        yield replace(made, shell="{base}/bin/counted")  # noqa: S604 - a field of that name


def spent(site: Site, cluster: Cluster) -> Mapping[str, Cost]:
    """What each host was asked for in a run; none was dialled twice."""
    costs = {}
    for host in site.inventory.hosts:
        machine, log = cluster.machine(host), site.fakes[host.name].base / "bin" / "processes"
        counts = [int(line) - OURS for line in log.read_text().split()]
        log.unlink()
        assert len(counts) == machine.execs
        costs[host.name] = Cost(machine.execs, machine.bytes_sent - machine.execs * SCRIPT, sum(counts))
    return costs


def test_a_push_with_nothing_to_do(site: Site) -> None:
    with site.cluster() as cluster:
        push(cluster, survey(cluster, site.programs), print)
        costs = spent(site, cluster)

    assert [name for name, cost in costs.items() if not cost.within(*LOOK)] == [], costs


def test_a_push_of_one_flag(site: Site) -> None:
    with replace(site, inventory=replace(site.inventory, flags={"kube-scheduler": {"v": "1"}})).cluster() as cluster:
        push(cluster, survey(cluster, site.programs), print)
        costs = spent(site, cluster)

    controllers = {host.name for host in SHIPPED.on("controller")}
    assert [name for name, cost in costs.items() if not cost.within(*(FLAG if name in controllers else LOOK))] == [], costs


def test_the_renewal_of_one_certificate(site: Site) -> None:
    now, only = datetime.now(UTC), ("kube-apiserver", "controller-2")
    made = issue.ensure(DECLARED, site.inventory, site.state, now, chosen=lambda one: (one.certificate, one.host) == only)

    with site.cluster() as cluster:
        pushed = bring(cluster, DECLARED, print)
        costs = spent(site, cluster)

    assert len(made) == len(pushed.files) == 1
    assert [name for name, cost in costs.items() if not cost.within(*(RENEWAL if name == only[1] else ANSWERS))] == [], costs
