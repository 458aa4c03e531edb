"""A kubelet that does something else than the API says is seen, also where a lab cannot be brought to do so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from hardway.desired import Answer, Secret
from hardway.inventory import Host
from hardway.smoke import callers
from hardway.smoke.checks import kubelet
from hardway.smoke.verdict import Failed
from tests.smoke.checks.node import WORKER, FakeNode, Pod, ended, status


@dataclass
class Kubelet:
    """Runs the two Pods of the check of what a kubelet does: well, but for what a test takes from it."""

    port: int
    spoil: Callable[[str], str] = lambda log: log
    exec_says: str = ""
    oom: dict[str, Any] = field(default_factory=lambda: ended(137, "OOMKilled"))
    gates: bool = True
    restarts: bool = True
    again: bool = True  # Ready after the restart
    ready: bool = True
    node: FakeNode = field(init=False)

    def __post_init__(self) -> None:
        self.node = FakeNode(play=self.play, port=self.port, executes=self.execute)

    def play(self, pod: Pod) -> None:
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/smoke/pods/{name}"
        if "greedy" in name:
            pod["status"] |= {"phase": "Failed", "conditions": [], "containerStatuses": [status("main", self.oom)]}
            return
        self.name, self.pod = name, pod
        Answering.name = name
        word = self.object("configmaps")["data"]["word"]
        self.hidden = self.object("secrets")["stringData"]["word"]
        log = "worker-1 {0} {1} {0} {1} {2}\nmore\n"
        self.node.answers |= {
            f"{path}/log": lambda _: self.spoil(log.format(word, self.hidden, 1 + self.status["restartCount"])),
            f"{path}:8080/proxy/shell": self.shell,
            "/apis/discovery.k8s.io/v1/namespaces/smoke/endpointslices": lambda _: self.slices(),
        }

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.pod["status"]["containerStatuses"][0]
        return found

    def object(self, plural: str) -> Pod:
        return next(one for path, one in self.node.objects.items() if f"/{plural}/" in path)

    def shell(self, query: str) -> dict[str, str]:
        script = parse_qs(query)["cmd"][0]
        if self.gates:
            self.ready = script.startswith("touch")
        return {"output": ""}

    def slices(self) -> dict[str, Any]:
        endpoint = {"addresses": [self.pod["status"]["podIP"]], "conditions": {"ready": self.ready}}
        return {"items": [{"endpoints": [endpoint]}]}

    def execute(self, *argv: str) -> str:
        if argv[-2:] == ("killall", "agnhost") and self.restarts:
            self.pod["status"]["containerStatuses"] = [status("main", restarts=1, identifier="c1")]
            if not self.again:
                self.pod["status"]["conditions"] = []
        return self.exec_says or self.hidden


class Answering(BaseHTTPRequestHandler):
    name = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.name.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface
        del format, args


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """At which a Pod answers that is forwarded."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_kubelet_that_does_all_of_it_passes_with_each_as_evidence(port: int) -> None:
    evidence = kubelet.runs(Kubelet(port).node.stage)

    for said in ("as variables and as files, starts 1", "kubectl exec", "kubectl port-forward", "OOMKilled", "not ready while", "starts 2"):
        assert said in evidence


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        ({"spoil": lambda log: log.replace("worker-1", "worker-2")}, "node, variables, files, starts; got after 10 s: the log of "),
        ({"spoil": lambda log: log.rsplit(" ", 2)[0]}, "node, variables, files, starts; got after 10 s: the log of "),
        ({"exec_says": "other"}, "to say "),
        ({"oom": ended()}, "to be OOMKilled; got exit code 0, Completed"),
        ({"oom": ended(137, "Error")}, "to be OOMKilled; got exit code 137, Error"),
        ({"gates": False}, "not ready, as its readiness probe fails; got after 30 s: the endpoints are {'10.200.1."),
        ({"restarts": False}, "since its liveness probe failed; got after 90 s: restartCount 0"),
        ({"again": False}, "since its liveness probe failed; got after 90 s: Running on worker-1"),
    ],
)
def test_each_thing_that_it_does_not_do_fails(port: int, sabotage: dict[str, Any], reason: str) -> None:
    with pytest.raises(Failed) as failed:
        kubelet.runs(Kubelet(port, **sabotage).node.stage)

    assert reason in str(failed.value)


def test_a_pod_that_does_not_answer_over_a_forwarded_port_fails() -> None:
    with pytest.raises(Failed, match="to say its name over kubectl port-forward; got 'ConnectionRefusedError"):
        kubelet.runs(Kubelet(port=1).node.stage)


def inspected(state: str = "CONTAINER_RUNNING", *, uid: str = "", parent: str = "containerd-shim", group: str = "") -> Callable[..., str]:
    """What a host says of the fleet's container."""

    def says(host: Host, *argv: str) -> str:
        assert host == WORKER
        identifier = argv[-1]
        if argv[:2] == ("crictl", "inspect"):
            of = uid or f"uid-{identifier.removesuffix('-echo')}"
            return f'{{"status": {{"state": "{state}", "labels": {{"io.kubernetes.pod.uid": "{of}"}}}}}}'
        return f"/agnhost netexec \n{parent}\n42\n1:cpu:/kubepods/pod/{group or identifier}\n"

    return says


def test_a_container_is_followed_from_the_api_to_the_kernel() -> None:
    node = with_fleet(inspected())

    evidence = kubelet.chain(node.stage).splitlines()

    assert len(evidence) == len(callers.fleet(node.stage).pods) == 2
    assert "/proc/42: `/agnhost netexec`, a child of containerd-shim, in the control group /kubepods/pod/" in evidence[0]


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (inspected("CONTAINER_EXITED"), "in containerd on worker-1; got CONTAINER_EXITED of uid-"),
        (inspected(uid="other"), "in containerd on worker-1; got CONTAINER_RUNNING of other"),
        (inspected(parent="systemd"), "below a shim and in the control group of "),
        (inspected(group="other"), "below a shim and in the control group of "),
    ],
)
def test_a_container_that_is_another_one_fails(says: Callable[..., str], reason: str) -> None:
    with pytest.raises(Failed) as failed:
        kubelet.chain(with_fleet(says).stage)

    assert reason in str(failed.value)


def with_fleet(says: Callable[..., str]) -> FakeNode:
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    item = {"metadata": {"name": WORKER.name, "labels": labels}, "spec": {}, "status": ready}
    return FakeNode(says=says, answers={"/api/v1/nodes": {"items": [item]}})


def doors(strangers: dict[bytes | None, int], ports: str = "10250") -> FakeNode:
    """A kubelet that answers by who comes; whoever is not named gets what he should."""

    def visited(url: str, path: str, pair: Secret | None, token: str | None) -> Answer:
        assert (url, path) == ("https://10.0.0.2:10250", "/pods")
        who = pair.data if pair else b"token" if token else None
        right = {b"kubernetes hardway-smoke None False": 403, b"kubernetes kube-apiserver-kubelet-client None False": 200}
        return Answer(status=strangers.get(who, right.get(who or b"", 401)), body=b"")

    lines = [f'LISTEN 0 4096 10.0.0.2:{port} 0.0.0.0:* users:(("kubelet",pid=9,fd=9))' for port in ports.split()]
    return FakeNode(visited=visited, says=lambda *_: "\n".join(lines))


def test_a_kubelet_that_lets_the_api_servers_in_alone_passes() -> None:
    evidence = kubelet.refuses_strangers(doors({}).stage)

    assert "401 for nobody, 401 for the API servers by another authority, 401 for an unknown token, 403 for somebody of ours" in evidence
    assert "200 for the API servers; ss: nobody listens at 10255" in evidence


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (doors({None: 200}), "expected 401 of the kubelet on worker-1 for nobody; got 200"),
        (doors({b"token": 200}), "expected 401 of the kubelet on worker-1 for an unknown token; got 200"),
        (doors({b"kubernetes hardway-smoke None False": 200}), "for somebody of ours with nothing to do here; got 200"),
        (
            doors({b"kubernetes kube-apiserver-kubelet-client None False": 403}),
            "expected 200 of the kubelet on worker-1 for the API servers",
        ),
        (doors({}, "10250 10255"), "to be open and 10255 closed; got open are [10250, 10255]"),
        (doors({}, ""), "to be open and 10255 closed; got open are []"),
    ],
)
def test_a_kubelet_that_lets_others_in_fails(node: FakeNode, reason: str) -> None:
    with pytest.raises(Failed) as failed:
        kubelet.refuses_strangers(node.stage)

    assert reason in str(failed.value)
