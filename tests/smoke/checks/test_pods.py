"""Pods that do not reach each other, and containers that do not share what they should, are seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

from hardway.desired import Stage
from hardway.smoke.checks import pods
from hardway.smoke.verdict import Failed, Skipped
from tests.smoke.checks.node import WORKER, FakeNode, Pod, ended, status

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
ITEM = {
    "metadata": {"name": WORKER.name, "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}},
    "spec": {},
    "status": READY,
}
PATH = "/api/v1/namespaces/smoke/pods"


def network(*, addresses: tuple[str, ...] = (), seen_as: str = "", answers: str = "", errors: tuple[str, ...] = ()) -> FakeNode:
    """Two Pods that reach each other, but for what is said."""
    node = FakeNode(answers={"/api/v1/nodes": {"items": [ITEM]}})
    names: dict[str, str] = {}  # by address

    def play(pod: Pod) -> None:
        name = pod["metadata"]["name"]
        if addresses:
            pod["status"]["podIP"] = addresses[len(names)]
        own = pod["status"]["podIP"]
        names[own] = name

        def dial(query: str) -> dict[str, Any]:
            asked = {key: value for key, (value,) in parse_qs(query).items()}
            said = {"hostname": answers or names[asked["host"]], "clientip": f"{seen_as or own}:40000"}[asked["request"]]
            return {"errors": list(errors)} if errors else {"responses": [said]}

        node.answers[f"{PATH}/{name}:8080/proxy/dial"] = dial

    node.play = play
    return node


def test_pods_that_reach_each_other_pass_with_who_saw_whom() -> None:
    evidence = pods.single(network().stage).splitlines()

    assert len(evidence) == 4
    assert "worker-1 to worker-1: hardway-smoke-echo-" in evidence[2]


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (network(addresses=("10.200.1.9", "10.200.1.9")), "to have an address of its own; got 10.200.1.9, of 10.200.1.9, 10.200.1.9"),
        (network(addresses=("10.0.0.2", "10.200.1.9")), "to have an address of its own; got 10.0.0.2"),
        (network(addresses=("10.200.1.9", "10.200.2.9")), "out of its node's range 10.200.1.0/24; got 10.200.2.9"),
        (network(errors=("no route to host",)), "from worker-1 to worker-1; got after 30 s: no route to host"),
        (network(answers="somebody"), "; got somebody, who sees it as 10.200.1."),
        (network(seen_as="10.0.0.2"), ", who sees it as 10.0.0.2"),
    ],
)
def test_pods_that_do_not_fail(node: FakeNode, reason: str) -> None:
    with pytest.raises(Failed) as failed:
        pods.single(node.stage)

    assert reason in str(failed.value)


def beside(
    *, phase: str = "Succeeded", code: int = 0, sidecar: dict[str, Any] | None = None, ships: str = "shipped {}", knows: bool = True
) -> FakeNode:
    """A Pod with a sidecar, which does its work but for what is said."""
    node = FakeNode()

    def play(pod: Pod) -> None:
        (first,), (main,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
        pod["status"] |= {"phase": phase, "containerStatuses": [status("main", ended(code, began=2, ends=3))]}
        pod["status"]["initContainerStatuses"] = [status("sidecar", sidecar or ended(137, began=1, ends=4))]
        if not knows:
            del first["restartPolicy"]
        node.answers[f"{PATH}/{pod['metadata']['name']}/log"] = ships.format(main["env"][0]["value"]) + "\n"

    node.play = play
    return node


def test_a_sidecar_that_works_and_does_not_hold_up_the_end_passes() -> None:
    assert "began 2026-11-25T03:00:01Z, main from 2026-11-25T03:00:02Z" in pods.sidecar(beside().stage)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (beside(phase="Failed", code=9), "its main container finds the sidecar's work; got exit code 9"),
        (beside(sidecar=ended(began=3, ends=4)), "to begin before its main container and end after it; got 2026-11-25T03:00:03Z"),
        (beside(sidecar=ended(began=1, ends=2)), "to begin before its main container and end after it"),
        (beside(sidecar={"running": {}}), "to begin before its main container and end after it"),
        (beside(ships="nothing"), "; got after 10 s: the log of sidecar is 'nothing"),
    ],
)
def test_a_sidecar_that_does_not_fails(node: FakeNode, reason: str) -> None:
    with pytest.raises(Failed) as failed:
        pods.sidecar(node.stage)

    assert reason in str(failed.value)


def test_a_cluster_that_knows_no_sidecars_is_skipped() -> None:
    with pytest.raises(Skipped, match=r"came with Kubernetes 1\.29"):
        pods.sidecar(beside(knows=False).stage)


def speaks(container: str, says: Callable[[FakeNode, Pod], str]) -> FakeNode:
    """Pods of which one container has a log."""
    node = FakeNode(answers={"/api/v1/nodes": {"items": [ITEM]}})

    def play(pod: Pod) -> None:
        def log(query: str) -> str:
            assert query == f"container={container}"
            return says(node, pod)

        node.answers[f"{PATH}/{pod['metadata']['name']}/log"] = log

    node.play = play
    return node


def target(node: FakeNode, pod: Pod) -> str:
    """The name of the Pod to which the ambassador leads."""
    there = pod["spec"]["containers"][1]["env"][0]["value"]
    return str(next(one["metadata"]["name"] for one in node.objects.values() if one.get("status", {}).get("podIP") == there)) + "\n"


def lines(_: FakeNode, pod: Pod) -> str:
    word = pod["spec"]["containers"][0]["env"][0]["value"]
    return "".join(f'{{"level": "{level}", "message": "{word}"}}\n' for level in ("INFO", "WARN"))


def test_containers_that_share_what_they_should_pass() -> None:
    assert "where its ambassador leads to 10.200.1." in pods.ambassador(speaks("main", target).stage)
    assert '{"level": "WARN", "message": ' in pods.adapter(speaks("adapter", lines).stage)


@pytest.mark.parametrize(
    ("run", "node", "reason"),
    [
        (pods.ambassador, speaks("main", lambda *_: ""), "answer to localhost; got after 30 s: the log of main is ''"),
        (pods.ambassador, speaks("main", lambda *_: "somebody\n"), "got after 30 s: the log of main is 'somebody"),
        (pods.adapter, speaks("adapter", lambda *_: "INFO word\n"), "got after 30 s: the log of adapter is 'INFO word"),
        (pods.adapter, speaks("adapter", lambda node, pod: lines(node, pod) * 2), "got after 30 s: the log of adapter is '{"),
    ],
)
def test_containers_that_do_not_fail(run: Callable[[Stage], str], node: FakeNode, reason: str) -> None:
    with pytest.raises(Failed) as failed:
        run(node.stage)

    assert reason in str(failed.value)
