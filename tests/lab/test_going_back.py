"""What a push cannot bring up goes back, and what a power cut interrupts is whole after the boot."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.remote import protocol
from hardway.remote.protocol import Action, Apply, Move
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import shell
from tests.lab.test_up import outside
from tests.remote.test_machine import sha

pytestmark = pytest.mark.lab

UNIT = "kube-proxy.service"
BOOTED = "systemctl show -p UserspaceTimestampMonotonic"
CONFIG = "/etc/kubernetes/kube-proxy/config.yaml"
# A push that is cut off right after its commit, when not one file has been swapped.
CUT = protocol.SCRIPT.replace(b'sync -- "$txn/commit" "$txn"\n  finish', b'sync -- "$txn/commit" "$txn"\n  kill -9 $$')


@contextmanager
def flags(cluster: LabCluster, text: str) -> Iterator[None]:
    """An inventory that asks for other flags."""
    before = cluster.path.read_text()
    cluster.path.write_text(f"{before}\nflags:\n  {text}\n")
    try:
        yield
    finally:
        cluster.path.write_text(before)


@pytest.mark.parametrize(
    ("unit", "flag", "why", "words"),
    [
        (  # ends at once
            "kube-scheduler",
            "tls-min-version: VersionTLS99",
            "systemd has restarted kube-scheduler.service",
            "unknown tls version",
        ),
        (  # is never up
            "kube-apiserver",
            "max-requests-inflight: -1",
            "kube-apiserver.service: restart failed",
            "--max-requests-inflight can not be negative value",
        ),
    ],
)
def test_a_flag_that_a_daemon_does_not_start_with_is_taken_back_and_goes_no_further(
    cluster: LabCluster, unit: str, flag: str, why: str, words: str
) -> None:
    hosts = cluster.inventory.on("controller")
    before = {host.name: outside(cluster, host)["files"] for host in hosts}
    started = {host.name: outside(cluster, host)["units"] for host in hosts}

    with flags(cluster, f"{unit}: {{{flag}}}"):
        done = cluster.inv("push")

    assert done.returncode == 1
    assert why in done.stderr
    assert words in done.stderr  # its last ones
    assert re.search(rf"^error: (\S+): {unit} went back to its files before, and is well again", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    tried = [name for name in started if outside(cluster, next(h for h in hosts if h.name == name))["units"] != started[name]]
    assert len(tried) == 1
    assert {name: files for name, files in before.items() if name not in tried} == {
        host.name: outside(cluster, host)["files"] for host in hosts if host.name not in tried
    }
    assert cluster.inv("plan").returncode == 0


def test_fault_33_a_mistyped_flag_of_a_daemon(cluster: LabCluster) -> None:
    """The daemon itself is asked, here, before any host is changed."""
    with flags(cluster, "kube-scheduler: {kube-api-pqs: 5, v: many}\n  etcd: {snapshot-cuont: 1}"):
        for verb in ("plan", "push"):
            done = cluster.inv(verb)
            assert done.returncode == 1
            assert "flags.kube-scheduler.kube-api-pqs: there is no such flag; did you mean kube-api-qps?" in done.stderr
            assert 'flags.kube-scheduler.v: invalid argument "many" for "-v, --v" flag' in done.stderr
            assert "flags.etcd.snapshot-cuont: there is no such flag; did you mean snapshot-count?" in done.stderr
    assert cluster.inv("plan").returncode == 0


def cut_off(cluster: LabCluster, host: Host, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shell(cluster.live, host, 'cat "$1"', CONFIG)
    new = (before + text).encode()
    change = Apply(
        moves=(Move(path=PurePosixPath(CONFIG), owner="root:root", mode=0o644, before=sha(before.encode()), after=sha(new)),),
        contents=(new,),
        owed=frozenset({UNIT}),
        actions=(Action(verb="restart", unit=UNIT),),
    )
    assert protocol.SCRIPT != CUT
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "SCRIPT", CUT)
        with pytest.raises(Mistake, match="the reply was cut short"):
            cluster.live.machine(host).apply(change)
    assert shell(cluster.live, host, 'cat "$1"', CONFIG) == before


def until_booted(cluster: LabCluster, host: Host, before: str) -> None:
    pause, deadline = threading.Event(), time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        try:
            if shell(cluster.live, host, f"systemctl is-system-running --wait >/dev/null; {BOOTED}") != before:
                return
        except Mistake:
            pause.wait(0.2)


def test_a_push_that_a_power_cut_interrupts_is_finished_at_boot_before_anything_of_ours_starts(
    cluster: LabCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = cluster.inventory.on("worker")[1]
    cut_off(cluster, host, "# all of it\n", monkeypatch)
    before = shell(cluster.live, host, BOOTED)

    cluster.cut_power(host)
    cluster.boot()
    until_booted(cluster, host, before)

    assert shell(cluster.live, host, 'tail -n 1 "$1"', CONFIG) == "# all of it\n"
    stamps = "systemctl show --value -p ExecMain$1TimestampMonotonic $2"
    finished, started = (int(shell(cluster.live, host, stamps, *of)) for of in (("Exit", "unfinished-push"), ("Start", "kube-proxy")))
    assert 0 < finished < started
    assert shell(cluster.live, host, "ls /var/lib/hardway; systemctl --failed --no-legend").split() == [
        "back",
        "managed",
        "proved",
        "store",
    ]
    planned = json.loads(cluster.inv("plan", "--json", "-").stdout)["hosts"][host.name]
    assert [(change["action"], change.get("path") or change["unit"]) for change in planned] == [("update", CONFIG), ("restart", UNIT)]
    assert cluster.inv("push").returncode == 0
    assert cluster.inv("plan").returncode == 0
