"""A status as an operator reads it: plain lines, with what is down at the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hardway.inventory import load
from hardway.observed import Facts, Observed, UnitState
from hardway.pki.register import Item
from hardway.status import Daemon, Standing, Status
from hardway.verbs.program.console import Console
from hardway.verbs.program.session import Session
from hardway.verbs.status import _show

INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")
NOW = datetime(2026, 11, 25, tzinfo=UTC)
FACTS = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="b", clock=0, disk_free=1 << 40, memory=1 << 30)
UP = UnitState(active="active", sub="running", enabled=True, invocation="1", restarts=0, since="Wed 2026-11-25 00:00:00 UTC")
DAEMON = Daemon(component="etcd", unit="etcd.service", state=UP, declared="3.7.3", runs="3.7.3")
WELL = Status(
    cluster="hardway",
    standings=(Standing(host=INVENTORY.hosts[1], observed=Observed(facts=FACTS), daemons=(DAEMON,), changes=0),),
    objects=0,
    leaders={"etcd": "controller-1"},
    expires=Item(kind="certificate", name="etcd-server", host="controller-1", not_after=NOW + timedelta(days=300)),
    now=NOW,
)


def shown(found: Status, capsys: pytest.CaptureFixture[str]) -> list[str]:
    _show(Session(inventory=INVENTORY, console=Console()), found)
    return capsys.readouterr().out.splitlines()


def test_all_that_is_well_is_a_table_and_some_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(WELL, capsys) == [
        "host          component  state   since                        version  well",
        "controller-1  etcd       active  Wed 2026-11-25 00:00:00 UTC  3.7.3    yes",
        "",
        "etcd: controller-1 leads",
        "a push would change nothing",
        "first to expire: etcd-server of controller-1, 2027-09-21, in 300 days",
    ]


def test_what_is_not_well_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = WELL.standings
    old = replace(DAEMON, runs="3.7.2")
    ill = replace(DAEMON, component="kube-scheduler", state=None, why="is not installed", runs=None, declared="1.37.2")
    observed = replace(Observed(facts=FACTS), owed=frozenset({"etcd.service"}))
    standings = (replace(one, daemons=(old, ill), changes=2, observed=observed), Standing(host=INVENTORY.hosts[2], why="no route"))
    lines = shown(replace(WELL, standings=standings, leaders={"etcd": None}), capsys)

    assert any("3.7.2 (3.7.3 is declared)" in line and line.endswith("yes") for line in lines)
    assert any("not installed" in line and "unknown (1.37.2 is declared)" in line for line in lines)
    assert "a push would make 2 changes on controller-1, unknown changes on controller-2; ./inv plan shows them" in lines
    assert "controller-1: a push still owes etcd.service a restart; ./inv push makes up for it" in lines
    assert lines[-3:] == [
        "controller-2: does not answer: no route",
        "controller-1: kube-scheduler: is not installed",
        "cluster: etcd: nobody leads",
    ]
