"""Ten hosts and, in full, a hundred: what each costs, and one line for one that fails."""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hardway.errors import Finding, Mistake
from hardway.inventory import Ssh
from hardway.push import push, survey
from hardway.remote.ssh import line
from tests.many.site import Site, alone, inventory, over
from tests.remote.sshd import PROGRAM, free_port, start

BESIDE = 3  # the main thread, who asks the API beside the hosts, and a pool of one


@pytest.fixture(scope="module", params=[6, pytest.param(96, marks=pytest.mark.full)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Controllers, a balancer and workers that carry all that they should."""
    with pytest.MonkeyPatch.context() as patch:
        alone(patch)
        yield Site.made(tmp_path_factory.mktemp("many"), inventory(request.param))


@pytest.fixture
def reached(site: Site, tmp_path: Path) -> Iterator[Site]:
    """The same behind one sshd, to which each has a connection of its own."""
    programs = site.fakes["lb-1"].base / "bin"
    server = start(tmp_path, f"MaxStartups 200\nSetEnv PATH={programs}:{os.environ['PATH']}\n")
    yield replace(site, reach=over(server))
    server.stop()


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads there were, each time that one began."""
    counts: list[int] = []
    begin = threading.Thread.start

    def counted(self: threading.Thread) -> None:
        begin(self)
        counts.append(threading.active_count())

    monkeypatch.setattr(threading.Thread, "start", counted)
    return counts


@pytest.mark.skipif(not PROGRAM, reason="no sshd")
def test_a_push_with_nothing_to_do_is_one_connection_and_one_command_a_host(
    reached: Site, most: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("hardway.push.survey"), "AT_ONCE", 4)  # the package has a function of its name
    before = threading.active_count()
    with reached.cluster() as cluster:
        found = survey(cluster, reached.programs)
        push(cluster, found, lambda line: pytest.fail(f"it does something: {line}"))
        machines = [cluster.machine(host) for host in reached.inventory.hosts]

    assert [(plan.host.name, plan.changes) for plan in found.plans] == [(host.name, ()) for host in reached.inventory.hosts]
    assert [(one.name, one.connects, one.execs) for one in machines] == [(host.name, 1, 1) for host in reached.inventory.hosts]
    # Paramiko has one for each connection; whatever else there is does not grow with the hosts.
    assert max(most) - before <= len(machines) + 4 + BESIDE


def test_one_host_that_does_not_answer_hides_nothing_of_the_others_and_a_push_changes_nothing(site: Site, tmp_path: Path) -> None:
    *rest, lost = site.inventory.hosts
    (config := tmp_path / "config").touch()
    nobody = line(replace(lost, ssh=Ssh(host="127.0.0.1", port=free_port())), identity=None, known_hosts=tmp_path / "none", config=config)
    changed = replace(site.inventory, flags={"kubelet": {"v": "1"}})
    wanting = replace(site, inventory=changed, reach=lambda host: nobody if host == lost else site.fakes[host.name])
    warned: list[Finding] = []

    with wanting.cluster() as cluster:
        found = survey(cluster, site.programs, partly=True, warn=warned.append)
        with pytest.raises(Mistake) as stopped:
            survey(cluster, site.programs)
        limited = survey(cluster, site.programs, some=tuple(rest))

    assert [plan.host.name for plan in found.plans if plan.changes] == [host.name for host in changed.on("worker") if host != lost]
    assert str(stopped.value) == "\n".join(map(str, found.wrong))
    assert re.fullmatch(rf"{lost.name}: cannot be reached at 127.0.0.1 port [0-9]+: .*", str(stopped.value))
    assert limited.plans == found.plans
    assert len({finding.what for finding in warned}) == len(warned)  # what is found on all of them is told once


def test_of_two_operators_one_has_all_locks_and_the_other_none(site: Site) -> None:
    hosts = site.inventory.hosts
    with site.cluster() as first, site.cluster() as second:
        with first.lock(hosts, "push"), pytest.raises(Mistake) as refused, second.lock(hosts, "push"):
            pass
        with first.lock(hosts[-1:], "reset"):
            with (
                pytest.raises(Mistake, match=rf"^{hosts[-1].name}: another operator is at work: .*, reset since "),
                second.lock(hosts, "push"),
            ):
                pass
            with first.lock(hosts[:-1], "push") as held:  # the second one has let go of what it had
                pass

    assert [finding.where for finding in refused.value.findings] == [hosts[0].name]  # told once, not by each host
    assert list(held) == [host.name for host in hosts[:-1]]
