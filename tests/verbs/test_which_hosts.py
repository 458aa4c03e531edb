"""`--hosts` means what it says, one option for every verb; many hosts are told in few words."""

from __future__ import annotations

import inspect
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hardway.errors import Finding, Mistake
from hardway.inventory import Host, load
from hardway.plan import Change, Plan
from hardway.push import Survey
from hardway.verbs import push
from hardway.verbs.program.console import Console
from hardway.verbs.program.hosts import called, chosen
from hardway.verbs.program.session import Session
from tasks import CONTENTS

SHIPPED = load(Path(__file__).parents[2] / "inventory.yaml")
WORKERS = tuple(Host(name=f"worker-{n}", address=IPv4Address("10.240.1.0") + n, roles=frozenset({"worker"})) for n in range(1, 97))
MANY = replace(SHIPPED, hosts=(*SHIPPED.on("loadbalancer", "controller"), *WORKERS))


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [
        ("", "lb-1 controller-1 controller-2 controller-3 worker-1 worker-2"),
        ("worker-1", "worker-1"),
        ("worker-*,lb-1", "lb-1 worker-1 worker-2"),
        ("controller", "controller-1 controller-2 controller-3"),
        ("loadbalancer, worker-[2-9]", "lb-1 worker-2"),
        ("!worker-2", "lb-1 controller-1 controller-2 controller-3 worker-1"),
        ("!worker-2,worker", "worker-1"),
        ("*-1,!controller", "lb-1 worker-1"),
    ],
)
def test_names_roles_and_globs_mean_hosts_in_the_order_of_the_inventory(patterns: str, meant: str) -> None:
    assert [host.name for host in chosen(SHIPPED, patterns)] == meant.split()


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ("wroker-1", "--hosts: wroker-1 means no host of the inventory; did you mean worker-1?"),
        (
            "worker-1,db-*",
            "--hosts: db-* means no host of the inventory; it has lb-1, controller-1, controller-2, controller-3, worker-1, worker-2; its ",
        ),
        ("!worker-7", "--hosts: !worker-7 means no host of the inventory; did you mean worker-"),
        ("worker,!worker", "--hosts: worker,!worker leaves no host"),
    ],
)
def test_what_means_no_host_is_refused(patterns: str, said: str) -> None:
    with pytest.raises(Mistake) as refused:
        chosen(SHIPPED, patterns)
    assert str(refused.value).startswith(said)


def test_every_verb_that_takes_hosts_takes_them_by_one_option() -> None:
    verbs = {name: task for group in CONTENTS.values() for name, task in group.items()}
    taking = {name for name, task in verbs.items() if "hosts" in inspect.signature(task.body).parameters}

    assert taking == {"plan", "push", "preflight", "status", "restart", "certs", "certs.renew", "reset", "render"}
    one = {name for name, task in verbs.items() if "host" in inspect.signature(task.body).parameters}
    assert one == {"lab.ssh", "etcd.rejoin"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["lb-1"], "lb-1"),
        (["controller-1", "controller-3"], "controller-1, controller-3"),
        ([host.name for host in SHIPPED.on("controller")], "every controller"),
        ([host.name for host in WORKERS], "every worker"),
        ([host.name for host in WORKERS[1:]], "worker-2, worker-3, worker-4 and 92 more"),
        ([host.name for host in MANY.hosts], "every host"),
    ],
)
def test_many_hosts_are_told_in_few_words(names: list[str], words: str) -> None:
    assert called(MANY, names) == words


def test_a_plan_for_a_hundred_hosts_is_a_row_for_each_thing_that_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change(component="kubelet", action="restart", what="kubelet.service", why="it reads config.yaml at start")
    plans = tuple(Plan(host=host, changes=(change,) if host in WORKERS[:94] else ()) for host in MANY.hosts)
    found = Survey(observed={}, parts={}, plans=plans, objects=(), texts={}, wrong=(Finding(where="worker-1", what="no answer"),))

    push._show(Session(inventory=MANY, console=Console()), found)

    assert capsys.readouterr().out.splitlines() == [
        "hosts                                     component  action   what             why",
        "worker-1, worker-2, worker-3 and 91 more  kubelet    restart  kubelet.service  it reads config.yaml at start",
        "",
        "6 hosts: nothing to change; 94 changes; `./inv push` makes them",
    ]
