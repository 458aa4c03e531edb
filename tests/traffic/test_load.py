"""The whole of it against a real server: a quiet run is clean, an outage shows, and nothing is left behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hardway.desired import EXPIRES
from hardway.errors import Mistake
from hardway.traffic import Settings, running
from hardway.traffic.ground import NAMESPACES
from hardway.traffic.load import Load
from hardway.traffic.report import Report
from tests.traffic.conftest import There
from tests.traffic.test_watch import until

FULL = {"get", "list", "put", "post", "delete", "watch"}


@pytest.fixture
def settings(there: There, tmp_path: Path) -> Settings:
    """Its kubectl does nothing but show what it is to read."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nexec cat "${1#--kubeconfig=}"\n')
    kubectl.chmod(0o755)
    return Settings(kubeconfig=str(there.kubeconfig), kubectl=str(kubectl), hosts=("controller-1",), longest=60)


def asked(there: There) -> int:
    return len(there.server.asked)


def test_a_quiet_run_counts_every_kind_and_no_failure(there: There, settings: Settings) -> None:
    with running(settings, print) as load:
        seen = asked(there)
        until(lambda: asked(there) > seen + 40)
        report = load.finish()

    print(report.verdict)  # on a machine that is busy there may be fewer than planned in so short a time
    assert (report.visible, report.raw, report.failures) == (0, 0, [])
    kinds = report.document["by_kind"]
    assert set(kinds) == FULL
    assert all(one["requests"] > 0 for one in kinds.values())
    assert set(report.document["left_out"]) == {"exec", "logs", "metrics", "service", "service_account", "webhook"}
    sums = tuple(map(sum, zip(*report.document["by_second"]["counts"], strict=True)))
    assert sums == (report.document["requests"], 0, 0)
    assert {"http/1.1 kept", "http/1.1 new", "http/2 kept", "http/2 new"} <= set(report.document["by_client"])
    assert [path for path in there.server.store.objects if path.startswith(NAMESPACES) and path.count("/") == 4] == []


def test_a_server_that_fails_while_the_ground_is_made_is_asked_again(there: There, settings: Settings) -> None:
    there.server.troubles.extend([("POST", "500"), ("POST", "done500"), ("POST", "503")])

    with running(settings, print):
        assert not there.server.troubles

    assert len([path for path in there.server.store.objects if path.startswith(NAMESPACES) and path.count("/") == 4]) == 0


def test_a_server_that_refuses_is_not(there: There, settings: Settings) -> None:
    there.server.troubles.append(("POST", "403"))

    with pytest.raises(Mistake, match=f"POST {NAMESPACES}: status 403: as it was told"), running(settings, print):
        pass


def test_a_server_that_is_away_for_a_while_shows(there: There, settings: Settings) -> None:
    with Load(settings, there.door, print) as load:
        load.begin()
        until(lambda: asked(there) > 12)
        there.server.kill()
        until(lambda: len(load._ledger.failures) > 10)
        there.server.start()
        seen = asked(there)
        until(lambda: asked(there) > seen + 20)
        report = load.finish()

    assert report.visible > 0
    assert report.raw >= report.visible
    assert not report.green
    assert {"connect: connection refused"} <= {one["cause"] for one in report.failures}
    first, last = (min(one["at"] for one in report.failures), max(one["at"] for one in report.failures))
    assert first < last
    assert report.gap > 0.1


def test_fewer_requests_than_planned_are_a_failure_too() -> None:
    line = {"requests": 9, "planned": 10, "client_visible_failures": 0, "raw_failures": 0, "replayed": 0, "longest_gap_ms": 1}
    full = {**line, "requests": 10}
    document = {
        "seconds": 1,
        "requests": 19,
        "client_visible_failures": 0,
        "raw_failures": 0,
        "longest_gap_ms": 1,
        "by_kind": {"get": line, "put": full},
        "put_without_replay": full,
        "post_without_replay": full,
    }
    report = Report(document=document)

    assert not report.green
    assert report.short == {"get": (9, 10)}
    assert report.verdict.endswith("fewer than planned: get: 9 of 10 planned")


def test_without_whoever_has_started_it_the_load_ends_and_leaves_nothing(there: There, settings: Settings) -> None:
    def interrupted() -> None:
        with running(settings, print):
            assert there.server.store.objects
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert [path for path in there.server.store.objects if path.count("/") == 4] == []


def test_a_process_that_is_killed_is_one_line_and_what_it_leaves_says_when_it_expires(there: There, settings: Settings) -> None:
    def killed() -> None:
        with running(settings, print) as load:
            load._process.kill()
            load.finish()

    with pytest.raises(Mistake, match="its process has ended"):
        killed()

    (left,) = [one for path, one in there.server.store.objects.items() if path.count("/") == 4]
    assert int(left["metadata"]["labels"][EXPIRES]) > time.time()


def test_a_cluster_that_does_not_answer_is_one_line(there: There, settings: Settings) -> None:
    there.server.kill()
    with pytest.raises(Mistake, match="no answer: connect: connection refused"), running(settings, print):
        pass
    there.server.start()
