"""A runtime that is another one, or leaves something behind, is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hardway.inventory import Host
from hardway.smoke.checks import containerd
from hardway.smoke.verdict import Failed
from tests.smoke.checks.node import FakeNode, Pod, ended, status

CRI = {"Version": "0.1.0", "RuntimeName": "containerd", "RuntimeVersion": "v2.4.2", "RuntimeApiVersion": "v1"}


def runtime(
    *,
    code: int = 7,
    cri: dict[str, str] | None = None,
    runc: str = "1.5.2",
    shown: dict[str, Any] | None = None,
    log: str = "",
    left: str = "",
) -> FakeNode:
    """A node with a runtime that is well, but for what is said."""
    node = FakeNode()

    def play(pod: Pod) -> None:
        name, (container,) = pod["metadata"]["name"], pod["spec"]["containers"]
        pod["status"] |= {"phase": "Failed", "containerStatuses": [status("main", ended(code, "Error"))]}
        word = container["command"][2].split()[1].rstrip(";")
        node.answers[f"/api/v1/namespaces/smoke/pods/{name}/log"] = f"{log or word}\n"

    def says(_: Host, *argv: str) -> str:
        if "crictl version" in argv[2]:
            return "\n".join(f"{key}:  {value}" for key, value in {**CRI, **(cri or {})}.items()) + f"\nrunc version {runc}\ncommit: 0\n"
        if argv[:2] == ("crictl", "inspect"):
            image = {"image": "hardway.local/agnhost:2.66.1"}
            return json.dumps({"status": {"state": "CONTAINER_EXITED", "exitCode": 7, "image": image, **(shown or {})}})
        return left

    node.play, node.says = play, says
    return node


def test_a_runtime_that_is_well_passes_and_leaves_nothing() -> None:
    node = runtime()

    evidence = containerd.runs(node.stage)

    for said in ("containerd v2.4.2, CRI v1, runc 1.5.2", "CONTAINER_EXITED, exitCode 7", "no sandbox, no process, no address"):
        assert said in evidence
    assert not [path for path in node.objects if "/pods/" in path]


def test_what_a_container_has_written_may_come_after_its_end() -> None:
    """The runtime copies it into the log, and is seen to be at it still."""
    node = runtime()
    play, asked = node.play, []

    def late(pod: Pod) -> None:
        play(pod)
        path = f"/api/v1/namespaces/smoke/pods/{pod['metadata']['name']}/log"
        written = node.answers[path]

        def log(_: str) -> Any:
            asked.append(path)
            return written if len(asked) > 1 else ""

        node.answers[path] = log

    node.play = late

    assert "wrote " in containerd.runs(node.stage)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: runtime(cri={"RuntimeVersion": "v2.4.1"}), "RuntimeVersion on worker-1 to be v2.4.2; got v2.4.1"),
        (lambda: runtime(cri={"RuntimeName": "cri-o"}), "RuntimeName on worker-1 to be containerd; got cri-o"),
        (lambda: runtime(runc="1.5.20"), "runc on worker-1 to be 1.5.2; got 1.5.20"),
        (lambda: runtime(code=0), "to end with 7; got 0, and CONTAINER_EXITED with 7 by crictl"),
        (lambda: runtime(shown={"exitCode": 0}), "to end with 7; got 7, and CONTAINER_EXITED with 0 by crictl"),
        (lambda: runtime(shown={"state": "CONTAINER_UNKNOWN"}), "to end with 7; got 7, and CONTAINER_UNKNOWN"),
        (lambda: runtime(log="other"), "; got after 10 s: the log of hardway-smoke-ends-"),
        (
            lambda: runtime(left="process /proc/7/cgroup\naddress x"),
            "to be left on worker-1; got after 60 s: process /proc/7/cgroup, address x",
        ),
    ],
)
def test_one_that_is_not_fails(make: Callable[[], FakeNode], reason: str) -> None:
    with pytest.raises(Failed) as failed:
        containerd.runs(make().stage)

    assert reason in str(failed.value)
