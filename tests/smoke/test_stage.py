"""What a stage makes, it removes."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from hardway.desired import EXPIRES, MANAGED_BY, Answer, Secret, Shown
from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.observed import Facts, Observed, UnitState
from hardway.smoke.kubectl import Kubectl
from hardway.smoke.stage import ClusterStage
from hardway.smoke.verdict import Skipped

HOST = Host(name="controller-1", address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"}))
INVENTORY = Inventory(
    cluster="test",
    hosts=(HOST,),
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="none", address=HOST.address),
)
OBSERVED = Observed(facts=Facts(arch="amd64", cgroup=2, systemd=252, boot_id="", clock=0.0, disk_free=0, memory=0))
NOW = 1_800_000_000.0
OURS = {MANAGED_BY: "hardway-smoke"}


WEBHOOK = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/w"


@dataclass
class FakeCluster:
    """Keeps objects by their path, as the API server would."""

    full: bool = False  # the quota
    objects: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ages: dict[str, float] = field(default_factory=dict)  # by path; what has none was just made
    deleted: list[tuple[str, Any]] = field(default_factory=list)
    refuses: str = ""  # what it does not delete
    keeps: str = ""  # what it says it deletes, and does not
    ran: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def inventory(self) -> Inventory:
        return INVENTORY

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, host: Host | None = None, token: str | None = None
    ) -> Answer:
        del host, token
        if method == "POST":
            metadata = dict(body["metadata"] if body else {})
            metadata.setdefault("name", f"{metadata.get('generateName')}x")
            if self.full:
                return answer(403, {"message": 'pods "p" is forbidden: exceeded quota: q'})
            if f"{path}/{metadata['name']}" in self.objects:
                return answer(409, {"message": "already exists"})
            self.objects[f"{path}/{metadata['name']}"] = {**(body or {}), "metadata": metadata}
            return answer(201, {**(body or {}), "metadata": metadata})
        if method == "DELETE":
            self.deleted.append((path, body))
            if self.refuses and self.refuses in path:
                return answer(403, {})
            kept = self.keeps and self.keeps in path
            return answer(200 if kept or self.objects.pop(path, None) is not None else 404, {})
        return self.api(path)

    def api(self, path: str, *, host: Host | None = None) -> Answer:  # noqa: ARG002 - the interface
        place, _, query = path.partition("?")
        if place in self.objects:
            return answer(200, self.objects[place])
        below = [one for at, one in self.objects.items() if at.rpartition("/")[0] == place]
        if place.rpartition("/")[2] in {"namespaces", "nodes", "pods", "mutatingwebhookconfigurations"}:
            return answer(200, {"items": [self._dated(place, one) for one in below if not query or made_by(one) in unquote(query)]})
        if place.rpartition("/")[2] in {"configmaps", "services", "networkpolicies", "jobs"}:
            return answer(200, {"items": []})
        return answer(404, {})

    def _dated(self, place: str, one: Mapping[str, Any]) -> Mapping[str, Any]:
        made = datetime.fromtimestamp(NOW - self.ages.get(f"{place}/{one['metadata']['name']}", 0), UTC)
        return {**one, "metadata": {**one["metadata"], "creationTimestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ")}}

    def run(self, host: Host, *argv: str) -> str:
        self.ran.append((host.name, *argv))
        return ""

    def visit(
        self,
        url: str,
        path: str,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
        pair: Secret | None = None,
        token: str | None = None,
    ) -> Answer:
        raise NotImplementedError

    def etcd(self, host: Host, path: str, body: Mapping[str, object] | None = None) -> Answer:
        raise NotImplementedError

    def local(self, host: Host, port: int, path: str, *, plain: bool = False) -> Answer:
        raise NotImplementedError

    def served(self, host: Host, port: int) -> int:
        raise NotImplementedError

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        raise NotImplementedError

    def issued(self, certificate: str, host: Host) -> int:
        raise NotImplementedError

    def signer(self, authority: str) -> str:
        raise NotImplementedError

    def judged(self, host: Host, port: int) -> int:
        raise NotImplementedError


def made_by(item: Mapping[str, Any]) -> str:
    return str(item["metadata"].get("labels", {}).get(MANAGED_BY, "nobody"))


def answer(status: int, document: Mapping[str, Any]) -> Answer:
    return Answer(status=status, body=json.dumps(document).encode(), date=NOW)


def stage(
    cluster: FakeCluster, kubectl: Kubectl | None = None, *, observe: Callable[[Host], Observed] = lambda _: OBSERVED, space: str = ""
) -> ClusterStage:
    return ClusterStage(cluster, observe=observe, issue=issue, kubectl=kubectl, tell=lambda _: None, space=space)


def issue(authority: str, common_name: str, organization: str | None, expired: bool) -> Secret:
    if authority == "lost":
        raise Mistake.at("state", "no authority with its key is here")
    return Secret(f"{authority} {common_name} {organization} {expired}".encode())


def pod(name: str) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": name}}


def test_a_run_that_creates_nothing_makes_no_namespace() -> None:
    cluster = FakeCluster()

    with stage(cluster):
        pass

    assert cluster.deleted == []


def test_checks_share_one_labelled_namespace() -> None:
    cluster = FakeCluster()

    with stage(cluster) as on:
        names: set[str] = set()
        threads = [threading.Thread(target=lambda: names.add(on.namespace)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert names == {"hardway-smoke-x"}
        assert cluster.objects["/api/v1/namespaces/hardway-smoke-x"]["metadata"]["labels"] == OURS


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_everything_made_is_removed_the_last_first(error: type[BaseException] | None) -> None:
    cluster = FakeCluster()

    def act() -> None:
        with stage(cluster) as on:
            on.create("/api/v1/nodes", {"kind": "Node", "metadata": {"name": "n", "labels": {"a": "b"}}})
            assert cluster.objects["/api/v1/nodes/n"]["metadata"]["labels"] == {"a": "b", **OURS}
            on.create(f"/api/v1/namespaces/{on.namespace}/pods", pod("p"))
            on.create("/api/v1/nodes", {"kind": "Node", "metadata": {"name": "m"}})
            if error:
                raise error

    if error:
        with pytest.raises(error):
            act()
    else:
        act()

    assert list(cluster.objects) == ["/api/v1/namespaces/hardway-smoke-x/pods/p"]  # the API server's controllers remove it
    assert [path for path, _ in cluster.deleted] == [
        "/api/v1/nodes/m",
        "/api/v1/nodes/n",
        "/api/v1/namespaces/hardway-smoke-x/pods",  # so that they end while the namespace still rests
        "/api/v1/namespaces/hardway-smoke-x",
    ]
    assert {body for _, body in cluster.deleted} == {None}  # each Pod goes as fast as its own spec says


def test_what_cannot_be_removed_is_told_and_the_rest_is_removed() -> None:
    cluster = FakeCluster(refuses="/nodes/")

    with stage(cluster) as on:
        on.create("/api/v1/nodes", {"metadata": {"name": "n"}})
        assert on.namespace

    assert on.left == ("/api/v1/nodes/n is still there: the API server answers 403",)
    assert list(cluster.objects) == ["/api/v1/nodes/n"]


@pytest.mark.parametrize(("space", "path"), [("", "namespaces/hardway-smoke-x"), ("theirs", "namespaces/theirs/pods/p")])
def test_what_does_not_go_is_waited_for_and_told(monkeypatch: pytest.MonkeyPatch, space: str, path: str) -> None:
    monkeypatch.setattr("hardway.smoke.stage.GONE", 0)
    cluster = FakeCluster(keeps=path)

    with stage(cluster, space=space) as on:
        on.create(f"/api/v1/namespaces/{on.namespace}/pods", pod("p"))

    assert on.left == (f"after 0 s: /api/v1/{path} is still going",)


def test_an_object_that_is_refused_is_a_mistake_with_the_servers_words() -> None:
    cluster = FakeCluster()

    with stage(cluster) as on:
        on.create("/api/v1/nodes", {"metadata": {"name": "n"}})
        with pytest.raises(Mistake, match="409 already exists"):
            on.create("/api/v1/nodes", {"metadata": {"name": "n"}})


def test_a_namespace_whose_quota_is_used_up_skips_the_check() -> None:
    with pytest.raises(Skipped, match=r"no room: .* exceeded quota: q"):
        stage(FakeCluster(full=True), space="theirs").create("/api/v1/namespaces/theirs/pods", pod("p"))


def test_what_checks_share_is_made_once() -> None:
    on, numbers, together = stage(FakeCluster()), itertools.count(), threading.Barrier(4, timeout=20)
    got: list[int] = []

    def ask() -> None:
        together.wait()
        got.append(on.once("pods", lambda: next(numbers)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [0, 0, 0, 0]


def test_what_could_not_be_made_is_tried_again_for_the_next_who_asks() -> None:
    on, answers = stage(FakeCluster()), iter([1, 0])

    with pytest.raises(ZeroDivisionError):
        on.once("pods", lambda: 1 // (next(answers) - 1))
    assert on.once("pods", lambda: next(answers)) == 0


def test_cleanup_spares_traffic_until_its_time_is_over() -> None:
    cluster = FakeCluster()
    for name, expires in (("over", NOW - 1), ("under-way", NOW + 1000)):
        path = f"/api/v1/namespaces/{name}"
        cluster.objects[path] = {"metadata": {"name": name, "labels": {MANAGED_BY: "hardway-traffic", EXPIRES: str(int(expires))}}}
        cluster.ages[path] = 3600

    removed, spared = stage(cluster).cleanup()

    assert ([str(one) for one in removed], [str(one) for one in spared]) == (["namespace/over"], ["namespace/under-way"])


def with_leftovers(**ages: float) -> FakeCluster:
    """A namespace and a node of a killed run, and a namespace of somebody else's."""
    cluster = FakeCluster(ages={"/api/v1/namespaces/hardway-smoke-old": ages["namespace"], "/api/v1/nodes/n": ages["node"]})
    for path, labels in (("/api/v1/namespaces/hardway-smoke-old", OURS), ("/api/v1/namespaces/default", {}), ("/api/v1/nodes/n", OURS)):
        cluster.objects[path] = {"metadata": {"name": path.rpartition("/")[2], "labels": labels}}
    cluster.objects["/api/v1/namespaces/hardway-smoke-old/pods/p"] = pod("p")
    return cluster


def test_cleanup_removes_what_carries_the_label_and_nothing_else() -> None:
    cluster = with_leftovers(namespace=3600, node=3600)

    removed, spared = stage(cluster).cleanup()

    assert ([str(one) for one in removed], spared) == (["namespace/hardway-smoke-old", "node/n"], ())
    assert list(cluster.objects) == ["/api/v1/namespaces/default"]


def test_cleanup_removes_a_webhook_before_that_which_answers_for_it() -> None:
    cluster = with_leftovers(namespace=3600, node=3600)
    cluster.objects[WEBHOOK] = {"metadata": {"name": "w", "labels": OURS}}
    cluster.ages[WEBHOOK] = 3600

    stage(cluster).cleanup()

    assert list(cluster.objects) == ["/api/v1/namespaces/default"]
    paths = [path for path, _ in cluster.deleted]
    assert paths.index(WEBHOOK) < paths.index("/api/v1/namespaces/hardway-smoke-old")


def test_cleanup_spares_what_may_belong_to_a_run_that_goes_on() -> None:
    cluster = with_leftovers(namespace=3600, node=20)

    removed, spared = stage(cluster).cleanup()

    assert ([str(one) for one in removed], [(str(one), one.age) for one in spared]) == (["namespace/hardway-smoke-old"], [("node/n", 20)])
    assert list(cluster.objects) == ["/api/v1/namespaces/default", "/api/v1/nodes/n"]


def test_cleanup_of_everything_removes_the_young_too() -> None:
    cluster = with_leftovers(namespace=20, node=20)

    removed, spared = stage(cluster).cleanup(every=True)

    assert (len(removed), spared) == (2, ())
    assert list(cluster.objects) == ["/api/v1/namespaces/default"]


def test_in_a_namespace_that_stays_a_run_removes_its_objects_and_nothing_else() -> None:
    cluster = FakeCluster(objects={"/api/v1/namespaces/theirs/pods/theirs": pod("theirs")})

    with stage(cluster, space="theirs") as on:
        assert on.namespace == "theirs"
        on.create(f"/api/v1/namespaces/{on.namespace}/pods", pod("p"))

    assert [path for path, _ in cluster.deleted] == ["/api/v1/namespaces/theirs/pods/p"]
    assert list(cluster.objects) == ["/api/v1/namespaces/theirs/pods/theirs"]


def test_a_job_that_is_left_in_a_namespace_that_stays_is_removed_with_its_pods() -> None:
    cluster = FakeCluster()

    with stage(cluster, space="theirs") as on:
        on.create("/apis/batch/v1/namespaces/theirs/jobs", pod("j"))

    assert cluster.deleted == [("/apis/batch/v1/namespaces/theirs/jobs/j", {"propagationPolicy": "Background"})]


def test_cleanup_of_a_namespace_that_stays_looks_nowhere_else() -> None:
    cluster = with_leftovers(namespace=3600, node=3600)
    path = "/api/v1/namespaces/theirs/pods/p"
    cluster.objects[path] = {"metadata": {"name": "p", "labels": OURS}}
    cluster.ages[path] = 3600

    removed, _ = stage(cluster, space="theirs").cleanup()

    assert [str(one) for one in removed] == ["pod/p"]
    assert [path for path, _ in cluster.deleted] == [path]


def test_a_stopped_unit_is_started_again_also_on_failure() -> None:
    cluster = FakeCluster()

    def act(on: ClusterStage) -> None:
        with on.stopped(HOST, "etcd.service"):
            assert len(cluster.ran) == 2  # asked whether it runs, and stopped
            raise RuntimeError

    with stage(cluster) as on, pytest.raises(RuntimeError):
        act(on)

    assert len(cluster.ran) == 3
    assert {(host, argv[-1]) for host, *argv in cluster.ran} == {("controller-1", "etcd.service")}


def test_a_unit_that_the_run_itself_has_restarted_did_not_restart_by_itself() -> None:
    states = (UnitState(active="active", sub="running", enabled=True, invocation=str(start), restarts=0) for start in range(9))

    def observe(_: Host) -> Observed:
        return replace(OBSERVED, units={"etcd.service": next(states), "other.service": next(states)})

    with stage(FakeCluster(), observe=observe) as on:
        with on.stopped(HOST, "etcd.service"):
            pass

        assert {unit: state.invocation for unit, state in on.began(HOST).units.items()} == {"etcd.service": "2", "other.service": "1"}


def test_a_certificate_that_cannot_be_issued_skips_the_check() -> None:
    on = stage(FakeCluster())

    assert on.issue("etcd", "somebody", expired=True).data == b"etcd somebody None True"
    with pytest.raises(Skipped, match="no authority with its key is here"):
        on.issue("lost", "somebody")


def test_waiting_ends_with_the_condition() -> None:
    answers = iter(["not yet", "not yet", None])

    stage(FakeCluster()).wait(lambda: next(answers), within=60)

    assert list(answers) == []


def test_waiting_ends_with_the_deadline_and_the_last_answer_also_when_that_is_an_error() -> None:
    def ask() -> str | None:
        raise Mistake.at("controller-1", "connection refused")

    with pytest.raises(Mistake, match="after 0 s: controller-1: connection refused"):
        stage(FakeCluster()).wait(ask, within=0)


def test_waiting_ends_when_the_run_is_given_up() -> None:
    on = stage(FakeCluster())
    on.give_up()

    with pytest.raises(Mistake, match="interrupted: not yet"):
        on.wait(lambda: "not yet", within=60)


def test_a_host_that_could_not_be_asked_at_the_beginning_is_told_to_who_needs_it() -> None:
    def observe(_: Host) -> Observed:
        raise Mistake.at("controller-1", "no route to host")

    with stage(FakeCluster(), observe=observe) as on, pytest.raises(Mistake, match="no route"):
        on.began(HOST)


def test_kubectl_is_run_with_the_administrators_kubeconfig(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text('#!/bin/sh\n[ "$3" ] || exit 9\necho "$@"\ncase "$*" in *bad*) echo "no such thing" >&2; exit 3;; esac\n')
    program.chmod(0o755)
    on = stage(FakeCluster(), Kubectl(program=program, kubeconfig=tmp_path / "admin.kubeconfig"))

    assert on.kubectl("get", "ns") == f"--kubeconfig {tmp_path}/admin.kubeconfig --request-timeout=30s get ns\n"
    with pytest.raises(Mistake, match="`kubectl get bad` ended with 3: no such thing"):
        on.kubectl("get", "bad")
    assert stage(FakeCluster()).kubectl("get", "ns") is None
