"""A node for checks: a fake API whose kubelet runs the Pods of the checks as it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

from hardway.desired import Answer, PodSettings, Secret, Stage
from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Networks

WORKER = Host(name="worker-1", address=IPv4Address("10.0.0.2"), roles=frozenset({"worker"}), pod_range=IPv4Network("10.200.1.0/24"))
INVENTORY = Inventory(
    cluster="test",
    hosts=(WORKER,),
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="none", address=IPv4Address("10.0.0.1")),
)
NOW = "2026-11-25T03:00:0{}Z"
Pod = dict[str, Any]


def ended(code: int = 0, reason: str = "Completed", *, began: int = 1, ends: int = 2) -> dict[str, Any]:
    """A container's state."""
    times = {"startedAt": NOW.format(began), "finishedAt": NOW.format(ends)}
    return {"terminated": {"exitCode": code, "reason": reason, **times}}


def status(name: str, state: Mapping[str, Any] | None = None, *, restarts: int = 0, identifier: str = "c0") -> dict[str, Any]:
    """A container's status; one that runs and is ready, unless it is said otherwise."""
    running = state is None
    shown = {"running": {}} if running else state
    return {"name": name, "ready": running, "state": shown, "restartCount": restarts, "containerID": f"containerd://{identifier}"}


@dataclass
class FakeNode:
    """Satisfies what checks of Pods ask of a Stage. `run` and `visit` are for each test to say."""

    play: Callable[[Pod], None] = lambda _: None  # what the kubelet makes of a Pod; by itself it is Ready
    inventory: Inventory = INVENTORY
    pods: PodSettings = field(default_factory=PodSettings)
    namespace: str = "smoke"
    objects: dict[str, Pod] = field(default_factory=dict)  # by path
    answers: dict[str, Any] = field(default_factory=dict)  # path without its query -> a document, or text, or what makes one of the query
    shared: dict[str, Any] = field(default_factory=dict)
    says: Callable[..., str] = lambda *_: ""  # on a host
    visited: Callable[..., Answer] = lambda *_, **__: Answer(status=200, body=b"{}")
    executes: Callable[..., str] = lambda *_: ""
    port: int = 0

    @property
    def stage(self) -> Stage:
        return cast("Stage", self)

    def run(self, host: Host, *argv: str) -> str:
        return self.says(host, *argv)

    def visit(self, url: str, path: str, *, pair: Secret | None = None, token: str | None = None) -> Answer:
        return self.visited(url, path, pair, token)

    def issue(self, authority: str, common_name: str, organization: str | None = None, *, expired: bool = False) -> Secret:
        return Secret(f"{authority} {common_name} {organization} {expired}".encode())

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def create(self, path: str, body: Mapping[str, Any], *, host: Host | None = None) -> Mapping[str, Any]:
        del host
        name = body["metadata"]["name"]
        made = {**body, "metadata": {"labels": {}, **body["metadata"], "uid": f"uid-{name}"}}
        if path.endswith("/pods"):
            containers = [status(one["name"], identifier=f"{name}-{one['name']}") for one in body["spec"]["containers"]]
            made["spec"] = {**body["spec"], "nodeName": WORKER.name}
            ready = [{"type": "Ready", "status": "True"}]
            address = {"podIP": f"10.200.1.{len(self.objects) + 2}", "hostIP": str(WORKER.address)}
            made["status"] = {"phase": "Running", "conditions": ready, "containerStatuses": containers, **address}
            self.play(made)
        self.objects[f"{path}/{name}"] = made
        return made

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        del body
        assert method == "DELETE"
        return Answer(status=200 if self.objects.pop(path, None) else 404, body=b"{}")

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        del host
        place, _, query = path.partition("?")
        found = self.objects.get(place, self.answers.get(place))
        if callable(found):
            found = found(query)
        if found is None:
            return Answer(status=404, body=b'{"message": "not found"}')
        return Answer(status=200, body=found.encode() if isinstance(found, str) else json.dumps(found).encode())

    def kubectl(self, *argv: str) -> str | None:
        return self.executes(*argv)

    def forwarded(self, pod: str, port: int) -> AbstractContextManager[int]:
        del pod, port
        return nullcontext(self.port)

    def wait(self, ask: Callable[[], str | None], within: float) -> None:
        for _ in range(3):
            if (said := ask()) is None:
                return
        raise Mistake.at("", f"after {within:.0f} s: {said}")
