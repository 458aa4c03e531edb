"""Real Pods fit what clusters ask of them, and say why when they do not come about."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from hardway.desired import Answer, PodSettings, Stage, Toleration
from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.smoke import pods
from hardway.smoke.verdict import Failed, Skipped

WORKER = Host(name="worker-1", address=IPv4Address("10.0.0.2"), roles=frozenset({"worker"}))
THEIRS = Inventory(
    cluster="theirs",
    hosts=(),
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="external", address=IPv4Address("10.0.0.1")),
)
OURS = Inventory(cluster="ours", hosts=(WORKER,), networks=THEIRS.networks, endpoint=THEIRS.endpoint)
LABELS = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}


@dataclass
class FakeStage:
    """Answers each path with what was put there, one after the other; the last one stays."""

    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    pods: PodSettings = field(default_factory=PodSettings)
    inventory: Inventory = THEIRS
    namespace: str = "proving"
    created: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    kubectl_says: str | None = ""
    ran: tuple[str, ...] = ()
    shared: dict[str, Any] = field(default_factory=dict)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        del host
        place = path.partition("?")[0]
        if place not in self.answers:
            return Answer(status=404, body=b"{}")
        left = self.answers[place]
        status, document = left.pop(0) if len(left) > 1 else left[0]
        return Answer(status=status, body=document.encode() if isinstance(document, str) else json.dumps(document).encode())

    def create(self, path: str, body: Mapping[str, Any], *, host: Host | None = None) -> Mapping[str, Any]:
        del host
        self.created.append((path, body))
        return body

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        assert (method, body) == ("DELETE", {"gracePeriodSeconds": pods.GRACE})
        self.deleted.append(path)
        return Answer(status=200, body=b"{}")

    def kubectl(self, *argv: str) -> str | None:
        self.ran = argv
        return self.kubectl_says

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def wait(self, ask: Callable[[], str | None], within: float) -> None:
        answers = [ask() for _ in range(3)]
        if None not in answers:
            raise Mistake.at("", f"after {within:.0f} s: {answers[-1]}")

    @property
    def stage(self) -> Stage:
        return cast("Stage", self)

    def made(self) -> Mapping[str, Any]:
        """The Pod that was created last."""
        path, body = self.created[-1]
        assert path == "/api/v1/namespaces/proving/pods"
        return body


PATH = "/api/v1/namespaces/proving/pods/web"
EVENTS = "/api/v1/namespaces/proving/events"


def pod(phase: str = "Pending", *, ready: bool = False, node: str = "worker-1", **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}, {"type": "PodScheduled", "status": str(bool(node)), "message": "0/2 nodes fit"}]
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"name": "web", "uid": "u"}, "spec": spec, "status": {"phase": phase, "conditions": conditions, **status}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containerStatuses": [{"name": "web", "ready": False, "state": {"waiting": {"reason": reason, "message": message}}}]}


def at(*documents: Any, events: Any = (), inventory: Inventory = THEIRS) -> FakeStage:
    """A stage on which the Pod `web` is like this, one after the other."""
    answers = [(200, one) if isinstance(one, dict) else (one, {}) for one in documents]
    return FakeStage({PATH: answers, EVENTS: [(200, {"items": list(events)})]}, inventory=inventory)


def test_a_pod_is_within_restricted_and_bounded_in_what_it_takes() -> None:
    fake = FakeStage()

    name = pods.make(fake.stage, "web", pods.container(fake.stage, "web", "netexec", memory="32Mi"), labels={"a": "b"})

    made = fake.made()
    spec, (container,) = made["spec"], made["spec"]["containers"]
    assert (made["metadata"]["name"], made["metadata"]["labels"]) == (name, {"a": "b"})
    assert spec["securityContext"] == {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["resources"] == {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "32Mi"}}
    assert spec["activeDeadlineSeconds"] == pods.LIFE
    assert spec["automountServiceAccountToken"] is False
    assert container["image"].startswith("registry.k8s.io/e2e-test-images/agnhost:")
    assert "imagePullSecrets" not in spec


def test_what_was_asked_for_a_cluster_is_in_every_pod() -> None:
    settings = PodSettings(image="mirror/agnhost:1", pull_secret="pull", architectures=("arm64",), tolerations=(Toleration(key="gpu"),))  # noqa: S106
    fake = FakeStage(pods=settings)

    pods.make(fake.stage, "web", pods.container(fake.stage, "web"))

    spec = fake.made()["spec"]
    assert spec["containers"][0]["image"] == "mirror/agnhost:1"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}


def test_a_pod_for_a_node_is_placed_by_the_scheduler_and_keeps_what_else_it_wishes() -> None:
    fake = FakeStage()
    apart: dict[str, Any] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}

    spec = pods.spec(fake.stage, pods.container(fake.stage, "web"), node="n1", affinity=apart, restartPolicy="Never")

    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]
    assert spec["affinity"]["podAntiAffinity"] == apart["podAntiAffinity"]
    assert spec["restartPolicy"] == "Never"
    assert "nodeName" not in spec
    assert "activeDeadlineSeconds" not in spec  # a ReplicaSet's template may not have it


def test_on_a_cluster_of_ours_a_pod_has_an_account_of_its_own() -> None:
    ours, theirs = FakeStage(inventory=OURS), FakeStage()

    assert pods.spec(ours.stage)["serviceAccountName"] == ours.created[0][1]["metadata"]["name"]
    assert pods.spec(theirs.stage)["serviceAccountName"] == "default"
    assert theirs.created == []


def test_pods_are_waited_for_until_each_is_ready() -> None:
    fake = at(pod(**waiting("ContainerCreating")), pod("Running", ready=True))

    (found,) = pods.ready(fake.stage, "web")

    assert found["status"]["phase"] == "Running"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (pod(node=""), "it has no node: 0/2 nodes fit"),
        (pod(**waiting("ImagePullBackOff", "no such image")), "Pending on worker-1; web waits: ImagePullBackOff no such image"),
        (
            pod("Running", containerStatuses=[{"name": "web", "ready": False, "state": {"running": {}}}]),
            "Running on worker-1; web runs and is not ready",
        ),
        (
            pod("Running", containerStatuses=[{"name": "web", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]),
            "Running on worker-1; web ended with 137: OOMKilled",
        ),
        (
            pod(
                initContainerStatuses=[{"name": "first", "ready": True, "state": {"terminated": {"exitCode": 0}}}],
                **waiting("PodInitializing"),
            ),
            "Pending on worker-1; web waits: PodInitializing",
        ),
        (
            pod("Failed", reason="DeadlineExceeded", message="it was active too long"),
            "it has ended: Failed on worker-1; DeadlineExceeded it was active too long",
        ),
    ],
    ids=["no node", "no image", "probe", "killed", "an init container is through", "ended"],
)
def test_a_pod_that_is_not_ready_says_what_holds_it_up(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(Failed, match="expected the Pod web to be Ready") as failed:
        pods.ready(at(document).stage, "web")

    assert reason in str(failed.value)
    assert failed.value.look is None


def test_a_failure_shows_the_last_events_and_leads_to_the_kubelet_of_the_node() -> None:
    events = [{"reason": f"R{n}", "message": f"said\n{n}", "lastTimestamp": f"2026-01-01T00:00:0{n}Z"} for n in (4, 1, 2, 3)]

    with pytest.raises(Failed) as failed:
        pods.ready(at(pod(**waiting("ContainerCreating")), events=events, inventory=OURS).stage, "web")

    assert "web waits: ContainerCreating; R2: said 2; R3: said 3; R4: said 4" in str(failed.value)
    assert str(failed.value.look) == "journalctl -u kubelet.service -n 10 on worker-1"


def test_a_pod_may_be_waited_for_until_it_has_ended_however_that_was() -> None:
    assert pods.ended(at(pod("Running", ready=True), pod("Failed")).stage, "web")["status"]["phase"] == "Failed"
    assert pods.ended(at(pod("Succeeded")).stage, "web")["status"]["phase"] == "Succeeded"
    with pytest.raises(Failed, match="expected the Pod web to end; got after 90 s: it runs"):
        pods.ended(at(pod("Running", ready=True)).stage, "web")


def test_a_deleted_pod_is_seen_to_go() -> None:
    fake = at(pod("Running", ready=True), 404)

    pods.delete(fake.stage, "web")

    assert fake.deleted == [PATH]
    with pytest.raises(Failed, match="expected the Pod web to go; got after 90 s: it is still there"):
        pods.delete(at(pod("Running", ready=True)).stage, "web")


def test_a_log_an_answer_and_a_command_come_from_the_pod() -> None:
    fake = FakeStage({f"{PATH}/log": [(200, "a line\n")], f"{PATH}:8080/proxy/hostname": [(200, "web")]}, kubectl_says="done")

    assert pods.log(fake.stage, "web", "main") == "a line\n"
    assert pods.get(fake.stage, "web", 8080, "/hostname").body == b"web"
    assert pods.execute(fake.stage, "web", "cat", "/x", container="main") == "done"
    assert fake.ran == ("exec", "--namespace", "proving", "web", "--container", "main", "--", "cat", "/x")


def test_what_needs_a_kubectl_is_skipped_where_there_is_none() -> None:
    with pytest.raises(Skipped, match="no kubectl"):
        pods.execute(FakeStage(kubectl_says=None).stage, "web", "true")


def node(name: str, *, ready: bool = True, labels: Mapping[str, str] = LABELS, taints: tuple[str, ...] = (), **spec: Any) -> dict[str, Any]:
    hard = [{"key": key, "effect": effect} for key, effect in (taint.split(":") for taint in taints)]
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": {"name": name, "labels": dict(labels)}, "spec": {"taints": hard, **spec}, "status": status}


def nodes(*found: Mapping[str, Any], settings: PodSettings | None = None) -> Stage:
    return FakeStage({"/api/v1/nodes": [(200, {"items": list(found)})]}, pods=settings or PodSettings()).stage


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (node("n2", ready=False), "n2 is not Ready"),
        (node("n2", unschedulable=True), "n2 is cordoned"),
        (node("n2", labels={**LABELS, "kubernetes.io/os": "windows"}), "n2 runs windows"),
        (node("n2", labels={**LABELS, "kubernetes.io/arch": "riscv64"}), "n2 is riscv64"),
        (node("n2", taints=("gpu:NoSchedule",)), "n2 has the taint gpu"),
    ],
)
def test_a_node_on_which_pods_would_not_run_is_left_out_and_named(bad: Mapping[str, Any], why: str) -> None:
    assert pods.usable(nodes(node("n1"), bad)) == ("n1",)
    with pytest.raises(Skipped, match=f"it takes 2 nodes, and may use 1; {why}"):
        pods.usable(nodes(node("n1"), bad), least=2)


def test_a_taint_that_is_put_up_with_or_that_only_asks_does_not_count() -> None:
    settings = PodSettings(tolerations=(Toleration(key="gpu"),))

    found = nodes(node("n1", taints=("gpu:NoExecute",)), node("n2", taints=("soft:PreferNoSchedule",)), settings=settings)

    assert pods.usable(found) == ("n1", "n2")


def test_no_more_nodes_are_used_than_was_asked_for() -> None:
    three = (node("n1"), node("n2"), node("n3"))

    assert pods.usable(nodes(*three, settings=PodSettings(nodes=2))) == ("n1", "n2")
    assert pods.usable(nodes(*three)) == ("n1", "n2", "n3")
