"""Nodes and Pods make connections for checks, and say who has answered."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hardway.desired import Answer
from hardway.inventory import Host
from hardway.smoke import callers, pods
from hardway.smoke.callers import Heard
from hardway.smoke.verdict import Failed, Skipped
from tests.smoke.test_pods import OURS, WORKER, FakeStage, node


@dataclass
class RealHost(FakeStage):
    """A stage whose host is this machine."""

    def run(self, host: Host, *argv: str) -> str:
        assert host == WORKER
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


class Says(BaseHTTPRequestHandler):
    """Answers with names, one after the other."""

    names: Iterator[str]

    def do_GET(self) -> None:
        assert self.path == "/hostname"
        name = next(self.names).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(name)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def saying(*names: str) -> Iterator[int]:
    """A server on loopback, and its port."""
    handler = type("Handler", (Says,), {"names": iter(names)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def host() -> callers.Caller:
    return callers.of_host(RealHost(inventory=OURS).stage, WORKER)


def test_a_host_without_curl_asks_over_as_many_connections_as_it_is_told() -> None:
    with saying("a", "b", "a") as port:
        assert host().get("127.0.0.1", port, 3) == Heard(answers=("a", "b", "a"))


def test_the_first_connection_without_an_answer_ends_them() -> None:
    with saying("a") as port:
        pass

    heard = host().get("127.0.0.1", port, 5)

    assert heard.answers == ()
    assert heard.error.endswith("Connection refused")


def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert host().get("127.0.0.1", silent.getsockname()[1], 2, within=1) == Heard(answers=(), error="no answer in time")


@pytest.mark.skipif(shutil.which("busybox") is None, reason="the shell of the image that Pods run is busybox")
def test_in_a_pod_busybox_asks_the_same(tmp_path: Path) -> None:
    subprocess.run(["busybox", "--install", "-s", tmp_path], check=True)

    def ask(port: int, times: int) -> Heard:
        argv = ["sh", "-c", callers._FROM_POD, "sh", "127.0.0.1", str(port), str(times)]
        done = subprocess.run(argv, env={"PATH": str(tmp_path)}, executable=tmp_path / "sh", capture_output=True, text=True, check=True)
        return Heard.read(done.stdout, times)

    with saying("a", "b", "a") as port:
        assert ask(port, 3) == Heard(answers=("a", "b", "a"))
    heard = ask(port, 3)
    assert (heard.answers, heard.error) == ((), "wget: can't connect to remote host (127.0.0.1): Connection refused")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert ask(silent.getsockname()[1], 3) == Heard(answers=(), error="no answer within 2 s")


def test_what_was_heard_is_told_by_who_has_answered_and_how_often() -> None:
    assert str(Heard.read("= b\n= a\n= b\n", 3)) == "a 1, b 2"
    assert str(Heard.read("= b\nwget: server returned error\n", 3)) == "b 1; then wget: server returned error"
    assert str(Heard.read("= \n", 1)) == "no answer in time"


@dataclass
class FleetStage(FakeStage):
    """Pods are Ready as soon as they were made, until they have ended."""

    ended: dict[str, tuple[int, Any]] = field(default_factory=dict)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        for _, body in self.created:
            if path == f"/api/v1/namespaces/proving/pods/{body['metadata']['name']}":
                placed = body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
                (on,) = placed["nodeSelectorTerms"][0]["matchFields"][0]["values"]
                status = {"conditions": [{"type": "Ready", "status": "True"}], "podIP": "10.0.0.1"}
                self.answers[path] = [self.ended.get(path, (200, {**body, "spec": {"nodeName": on}, "status": status}))]
        return super().api(path, host=host)


def fleet_stage(*nodes: str) -> FleetStage:
    """A cluster with these nodes."""
    return FleetStage({"/api/v1/nodes": [(200, {"items": [node(name) for name in nodes]})]})


def test_the_checks_of_a_run_share_one_pod_on_each_node() -> None:
    fake = fleet_stage("n1", "n2")

    fleet = callers.fleet(fake.stage)

    assert callers.fleet(fake.stage) is fleet
    assert [pod["spec"]["nodeName"] for pod in fleet.pods] == ["n1", "n2"]
    assert fleet.backends == tuple(pod["metadata"]["name"] for pod in fleet.pods)
    assert {body["spec"]["subdomain"] for _, body in fake.created if body["kind"] == "Pod"} == {fleet.name}


@pytest.mark.parametrize("now", [404, "Failed"])
def test_pods_that_are_gone_or_have_ended_are_made_anew(now: int | str) -> None:
    fake = fleet_stage("n1", "n2")
    before = callers.fleet(fake.stage)
    name = before.pods[0]["metadata"]["name"]

    fake.ended[f"/api/v1/namespaces/proving/pods/{name}"] = (404, {}) if now == 404 else (200, {"spec": {}, "status": {"phase": now}})

    after = callers.fleet(fake.stage)
    assert after.name != before.name
    assert callers.fleet(fake.stage) is after


def test_a_cluster_of_one_node_has_two_pods_to_spread_over() -> None:
    assert len(callers.fleet(fleet_stage("n1").stage).backends) == 2


def test_no_more_than_a_few_pods_stand_behind_a_service() -> None:
    fleet = callers.fleet(fleet_stage("n1", "n2", "n3", "n4").stage)

    assert (len(fleet.pods), len(fleet.backends)) == (4, callers.BACKENDS)


def test_without_a_node_that_may_be_used_nothing_is_made() -> None:
    fake = fleet_stage()

    with pytest.raises(Skipped, match="may use 0"):
        callers.fleet(fake.stage)
    assert fake.created == []


def test_a_pod_is_asked_by_way_of_its_own_shell() -> None:
    fake = fleet_stage("n1")
    (one, _) = callers.of_pods(fake.stage, callers.fleet(fake.stage))
    (path,) = (path for path in fake.answers if path.endswith(one.name.split()[2]))
    fake.answers[f"{path}:{pods.NETEXEC}/proxy/shell"] = [(200, {"output": "= a\n= b\n"})]

    assert one.get("10.32.0.7", 80, 2) == Heard(answers=("a", "b"))


def test_a_pod_that_runs_no_script_is_a_failure() -> None:
    fake = fleet_stage("n1")
    (one, _) = callers.of_pods(fake.stage, callers.fleet(fake.stage))

    with pytest.raises(Failed, match="to run a script; got 404"):
        one.get("10.32.0.7", 80, 2)


def test_elsewhere_pods_may_talk_also_where_the_namespace_forbids_it() -> None:
    theirs, ours = FakeStage(), FakeStage(inventory=OURS)

    for fake in (theirs, ours):
        for _ in range(2):
            pods.make(fake.stage, "web", pods.container(fake.stage, "web"))

    (path, policy), *made = theirs.created
    assert (path, policy["kind"]) == ("/apis/networking.k8s.io/v1/namespaces/proving/networkpolicies", "NetworkPolicy")
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/managed-by": "hardway-smoke"}}
    assert [body["kind"] for _, body in made] == ["Pod", "Pod"]
    assert "NetworkPolicy" not in {body["kind"] for _, body in ours.created}


def test_a_script_runs_in_a_pod_and_what_it_says_comes_back() -> None:
    fake = FakeStage({f"/api/v1/namespaces/proving/pods/web:{pods.NETEXEC}/proxy/shell": [(200, {"output": "a line\n"})]})

    assert pods.shell(fake.stage, "web", "echo 'a line' | cat & exit") == "a line\n"
