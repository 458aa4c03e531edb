"""How things are broken on a lab's hosts, and how checks are seen to pass and to turn red."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hardway.components.lease import lease
from hardway.inventory import Host
from hardway.remote.cluster import Cluster
from hardway.smoke import CHECKS, ClusterStage, runner
from hardway.smoke.report import Result
from hardway.verbs import smoke as verb
from hardway.verbs.program.console import Console
from hardway.verbs.program.session import Session
from tests.lab.conftest import LabCluster

DROP_IN = "/run/systemd/system/{unit}.d/sabotage.conf"


@contextmanager
def fresh(cluster: LabCluster) -> Iterator[ClusterStage]:
    """A run's stage, whose beginning is now."""
    session = Session(inventory=cluster.inventory, console=Console())
    with verb._stage(session, cluster.live, print) as on:
        yield on


def passes(cluster: LabCluster, *options: str) -> None:
    """The whole report of a cluster that is well."""
    done = cluster.inv("smoke", *options, "--json", "-")
    found = json.loads(done.stdout)
    names = [check.name for check in CHECKS if options or "disruptive" not in check.needs]
    assert {one["name"]: (one["status"], one["reason"]) for one in found["checks"]} == dict.fromkeys(names, ("passed", ""))
    assert done.returncode == 0


def verdicts(stage: ClusterStage, *names: str) -> dict[str, Result]:
    chosen = [check for check in CHECKS if check.name in names]
    assert len(chosen) == len(names)
    return {result.name: result for result in runner.run(chosen, stage, have={"api", "hosts", "namespace", "disruptive"}, tell=print)}


def assert_red(stage: ClusterStage, **reasons: str) -> None:
    """Checks that must fail, each with what must be in its reason; `__` stands for the dot, `_` for the dash."""
    names = {name.replace("__", ".").replace("_", "-"): reason for name, reason in reasons.items()}
    found = verdicts(stage, *names)
    assert {name: result.status for name, result in found.items()} == dict.fromkeys(names, "failed")
    for name, reason in names.items():
        assert reason in found[name].reason
        assert "the check itself broke" not in found[name].reason


def assert_green(stage: ClusterStage, *names: str) -> None:
    assert {name: result.reason for name, result in verdicts(stage, *names).items()} == dict.fromkeys(names, "")


def shell(live: Cluster, host: Host, script: str, *argv: str) -> str:
    return live.run(host, "sh", "-ec", script, "sh", *argv)


def with_flags(live: Cluster, host: Host, unit: str, *flags: str, without: str = "", killed: bool = False) -> None:
    """A drop-in that gives a daemon more flags, what comes last wins; and takes away those whose names are in `without`."""
    text = live.run(host, "cat", f"/etc/systemd/system/{unit}")
    exec_start = text[text.index("ExecStart=") :]
    words = exec_start[: exec_start.index("\n\n")].split(" \\\n  ")  # the shipped units have an empty line after it
    kept = [word for word in words if word.removeprefix("--").partition("=")[0] not in without.split()]
    command = " \\\n  ".join([*kept, *flags])
    write = 'mkdir -p "${1%/*}"; printf %s "$2" >"$1"'
    shell(live, host, write, DROP_IN.format(unit=unit), f"[Service]\nExecStart=\n{command}\n")
    _restart(live, host, unit, killed=killed)


def without_flags(live: Cluster, host: Host, unit: str, *, killed: bool = False) -> None:
    shell(live, host, 'rm -r "${1%/*}"', DROP_IN.format(unit=unit))
    _restart(live, host, unit, killed=killed)


def _restart(live: Cluster, host: Host, unit: str, *, killed: bool) -> None:
    """By a kill where a stop would take long."""
    kill = 'systemctl kill --signal=KILL "$1"; ' if killed else ""
    shell(live, host, f'systemctl daemon-reload; {kill}systemctl restart "$1"', unit)


def afresh(live: Cluster, component: str) -> None:
    """Free the Lease that the controller manager does not give back, so that nobody waits until it has run out."""
    live.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{component}")


def led_again(live: Cluster, component: str, killed: Host) -> None:
    """After a kill: until an instance that lives leads. A dead leader's name stays in the Lease until that runs out, so it goes first.

    A Lease of somebody who lives is left alone: without it he would step down and exit.
    """
    found = lease(live, component)
    if found is None or found.host == killed.name:
        afresh(live, component)
    until(lambda: (found := lease(live, component)) is not None and bool(found.holder))


def until(ask: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if ask():
            return
        pause.wait(0.1)
    raise AssertionError("it did not come about within a minute")
