"""Each check comes to a verdict, whatever it does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from hardway.desired import Check, Stage
from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.smoke import runner
from hardway.smoke.report import Result
from hardway.smoke.verdict import Failed, Journal, Skipped, eventually

HOST = Host(name="controller-1", address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"}))
BALANCER = Host(name="lb-1", address=IPv4Address("10.0.0.9"), roles=frozenset({"loadbalancer"}))
INVENTORY = Inventory(
    cluster="test",
    hosts=(HOST, BALANCER),
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="haproxy", address=BALANCER.address),
)
ALL_NEEDS = frozenset({"api", "hosts", "disruptive"})


@dataclass
class FakeStage:
    """Runs one command, and knows when it was given up."""

    journal: str | Mistake = ""
    inventory: Inventory = INVENTORY
    ran: list[tuple[str, ...]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, host: Host, *argv: str) -> str:
        self.ran.append((host.name, *argv))
        if isinstance(self.journal, Mistake):
            raise self.journal
        return self.journal

    def wait(self, ask: Callable[[], str | None], within: float) -> None:  # noqa: ARG002 - the interface
        if answer := ask():
            raise Mistake.at("", f"after 1 s: {answer}")

    def give_up(self) -> None:
        self.over.set()


def check(name: str, run: Callable[[Any], str], **fields: Any) -> Check:
    return Check(name=name, component="etcd", proves="something", run=run, **fields)


def verdicts(*checks: Check, stage: FakeStage | None = None, have: frozenset[str] = ALL_NEEDS) -> dict[str, Result]:
    results = runner.run(checks, cast("Stage", stage or FakeStage()), have=have, tell=lambda _: None)
    return {result.name: result for result in results}


def raises(error: BaseException) -> Callable[[Any], str]:
    def run(_: Any) -> str:
        raise error

    return run


def test_what_a_check_returns_is_its_evidence() -> None:
    result = verdicts(check("a", lambda _: "GET /readyz: 200"))["a"]

    assert (result.status, result.evidence, result.reason) == ("passed", "GET /readyz: 200", "")


def test_a_failure_says_what_was_expected_and_got_and_shows_the_last_journal_lines() -> None:
    stage = FakeStage(journal="raft: lost leader\n")

    result = verdicts(check("a", raises(Failed("a leader", "none", Journal(HOST, "etcd.service")))), stage=stage)["a"]

    assert result.status == "failed"
    assert result.reason == "expected a leader; got none; look at journalctl -u etcd.service -n 10 on controller-1"
    assert result.evidence == "journalctl -u etcd.service -n 10 on controller-1:\nraft: lost leader"
    assert stage.ran == [("controller-1", "journalctl", "-u", "etcd.service", "-n", "10", "--no-pager", "-o", "short-iso")]


def test_a_failure_is_told_also_if_the_journal_cannot_be_read() -> None:
    stage = FakeStage(journal=Mistake.at("controller-1", "no route to host"))

    result = verdicts(check("a", raises(Failed("a leader", "none", Journal(HOST, "etcd.service")))), stage=stage)["a"]

    assert result.status == "failed"
    assert "no route to host" in result.evidence


def test_a_question_without_an_answer_is_a_failure() -> None:
    result = verdicts(check("a", raises(Mistake.at("controller-1", "connection refused"))))["a"]

    assert (result.status, result.reason) == ("failed", "controller-1: connection refused")


def test_an_endpoint_without_an_answer_leads_to_the_balancers_journal() -> None:
    result = verdicts(check("a", raises(Mistake.at("https://10.0.0.9:6443", "connection refused"))))["a"]

    expected = "https://10.0.0.9:6443: connection refused; look at journalctl -u kube-apiserver-lb.service -n 10 on lb-1"
    assert (result.status, result.reason) == ("failed", expected)


def test_a_check_that_breaks_fails_and_the_others_go_on() -> None:
    found = verdicts(check("broken", raises(KeyError("spec"))), check("good", lambda _: "yes"))

    assert (found["broken"].status, found["good"].status) == ("failed", "passed")
    assert "KeyError: 'spec'" in found["broken"].reason


def test_what_cannot_be_run_is_skipped_with_the_reason() -> None:
    result = verdicts(check("a", raises(Skipped("there is one API server"))))["a"]

    assert (result.status, result.reason) == ("skipped", "there is one API server")


def test_a_check_whose_needs_are_not_met_never_begins() -> None:
    result = verdicts(check("a", raises(AssertionError()), needs=frozenset({"api", "disruptive"})), have=frozenset({"api"}))["a"]

    assert (result.status, result.reason) == ("skipped", "it needs disruptive")


def test_what_does_not_come_about_in_time_is_a_failure_with_the_last_answer() -> None:
    def run(stage: Stage) -> str:
        eventually(stage, "the Pod to get a node", lambda: "it has none", within=1)
        return ""

    assert verdicts(check("a", run))["a"].reason == "expected the Pod to get a node; got after 1 s: it has none"


def test_checks_run_side_by_side() -> None:
    together = threading.Barrier(2, timeout=20)  # each waits for the other: one after the other would never end

    found = verdicts(*(check(name, lambda _: str(together.wait())) for name in "ab"))

    assert {result.status for result in found.values()} == {"passed"}


def test_disruptive_checks_run_alone_and_those_that_look_back_run_last() -> None:
    order: list[str] = []
    running: set[str] = set()

    def run(name: str) -> Callable[[Any], str]:
        def body(_: Any) -> str:
            running.add(name)
            order.append("+".join(sorted(running)))
            running.discard(name)
            return ""

        return body

    stops = frozenset({"disruptive"})
    checks = [
        check("back", run("back"), last=True),
        check("x", run("x"), needs=stops),
        check("y", run("y"), needs=stops),
        check("a", run("a")),
    ]

    names = list(verdicts(*checks))

    assert order == ["a", "x", "y", "back"]
    assert names == ["back", "x", "y", "a"]  # the report keeps the order of the list


def test_what_takes_long_begins_before_the_others() -> None:
    begun = threading.Event()

    def waits(_: Any) -> str:
        assert begun.wait(20)  # as many as there may be at once: nobody else would begin
        return ""

    def long(_: Any) -> str:
        begun.set()
        return ""

    found = verdicts(*(check(f"c{i}", waits) for i in range(runner.AT_ONCE)), check("long", long, first=True))

    assert {result.reason for result in found.values()} == {""}
    assert list(found)[-1] == "long"  # the report keeps the order of the list


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_checks_go_at_a_time_than_is_said(at_once: int) -> None:
    """Each gives one too many the time to begin."""
    going: list[int] = []
    most, counting, too_many = 0, threading.Lock(), threading.Event()

    def counts(_: Any) -> str:
        nonlocal most
        with counting:
            going.append(1)
            most = max(most, len(going))
            if len(going) > at_once:
                too_many.set()
        too_many.wait(0.2)
        with counting:
            going.pop()
        return ""

    checks = [check(f"c{i}", counts) for i in range(4)]
    found = runner.run(checks, cast("Stage", FakeStage()), have=ALL_NEEDS, tell=lambda _: None, at_once=at_once)

    assert [one.status for one in found] == ["passed"] * 4
    assert most == at_once


def test_an_interrupted_run_makes_waiting_checks_give_up_and_begins_no_other() -> None:
    stage, begun = FakeStage(), []

    def waits(_: Any) -> str:
        begun.append("waits")
        assert stage.over.wait(20)
        return ""

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    checks = [check(f"w{i}", waits) for i in range(runner.AT_ONCE - 1)] + [check("first", lambda _: "")]
    checks.append(check("stop", waits, needs=frozenset({"disruptive"})))
    with pytest.raises(KeyboardInterrupt):
        runner.run(checks, cast("Stage", stage), have=ALL_NEEDS, tell=interrupt)

    assert stage.over.is_set()
    assert len(begun) == runner.AT_ONCE - 1


def test_what_goes_on_is_told_while_it_does() -> None:
    told: list[str] = []
    together = threading.Barrier(2, timeout=20)

    def run(_: Any) -> str:
        together.wait()
        return ""

    checks = [check("a", run), check("b", run), check("c", raises(AssertionError()), needs=frozenset({"elsewhere"}))]
    runner.run(checks, cast("Stage", FakeStage()), have=ALL_NEEDS, tell=lambda _: None, now=told.append)

    assert {"1 of 3; a, b", "1 of 3; b, a"} & set(told)
    assert told[-1] == "3 of 3"
