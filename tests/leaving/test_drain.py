"""A node is drained as far as budgets allow, and who stays is told with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from hardway.desired import Answer
from hardway.errors import Mistake
from hardway.leaving import drain
from hardway.leaving.drain import LOSABLE, MIRROR, Pod, cordon, movable, refuse_losses

Json = dict[str, Any]
BUDGET = {
    "message": "Cannot evict",
    "details": {"causes": [{"message": "The disruption budget web needs 2 healthy pods and has 2 currently"}]},
}


def pod(name: str, kind: str = "ReplicaSet", *, annotations: Mapping[str, str] | None = None, **more: Any) -> Json:
    owners = [{"kind": kind, "controller": True}] if kind else []
    metadata = {
        "namespace": "default",
        "name": name,
        "uid": f"uid-{name}",
        "ownerReferences": owners,
        "annotations": dict(annotations or {}),
    }
    return {"metadata": metadata | more.pop("metadata", {}), "spec": {"nodeName": "worker-1", **more}, "status": {"phase": "Running"}}


def answer(status: int, body: object = None) -> Answer:
    return Answer(status=status, body=json.dumps(body or {}).encode())


@dataclass
class FakeApi:
    """An API server whose evicted Pods go at the next look; `refusals` answer evictions first, in their order."""

    pods: list[Json]
    refusals: list[tuple[int, Json]] = field(default_factory=list)
    ends: bool = True  # a kubelet ends what was asked to
    node: bool = True
    seen: list[str] = field(default_factory=list)
    looked: Callable[[], None] = lambda: None

    def api(self, path: str) -> Answer:
        assert path == "/api/v1/pods?fieldSelector=spec.nodeName%3Dworker-1"
        self.looked()
        listed = answer(200, {"items": self.pods})
        if self.ends:
            self.pods = [one for one in self.pods if "deletionTimestamp" not in one["metadata"]]
        return listed

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        self.seen.append(f"{method} {path}")
        if method == "PATCH":
            assert body == {"spec": {"unschedulable": True}}
            return answer(200 if self.node else 404)
        assert body
        if self.refusals:
            return answer(*self.refusals.pop(0))
        one = next((one for one in self.pods if path.endswith(f"/{one['metadata']['name']}/eviction")), None)
        if one is None:
            return answer(404)
        assert body["deleteOptions"]["preconditions"]["uid"] == one["metadata"]["uid"]
        one["metadata"]["deletionTimestamp"] = "now"
        return answer(201)


def drained(api: FakeApi, *, within: float = 0, ends: bool = True, force: bool = False) -> list[str]:
    told: list[str] = []
    drain.drain(api, "worker-1", within=within, tell=told.append, ends=ends, force=force)
    return told


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "PAUSE", 0.01)


def test_pods_are_evicted_and_waited_for_and_those_that_belong_to_the_node_stay() -> None:
    api = FakeApi([pod("web"), pod("agent", "DaemonSet"), pod("static", "Node", annotations={MIRROR: "x"})])

    assert drained(api, within=30) == ["default/web: evicted"]
    assert [one["metadata"]["name"] for one in api.pods] == ["agent", "static"]


def test_what_a_budget_refuses_is_tried_again_and_told_once() -> None:
    api = FakeApi([pod("web")], refusals=[(429, BUDGET)] * 3)

    assert drained(api, within=30) == [
        "default/web: The disruption budget web needs 2 healthy pods and has 2 currently",
        "default/web: evicted",
    ]
    assert len(api.seen) == 4


def test_when_the_time_is_over_each_pod_and_its_budget_is_named() -> None:
    api = FakeApi([pod("web"), pod("slow", metadata={"deletionTimestamp": "now"})], refusals=[(429, BUDGET)] * 1000, ends=False)

    with pytest.raises(Mistake) as stopped:
        drained(api)

    first, second = map(str, stopped.value.findings)
    assert first.startswith("pod/default/web: still on worker-1: The disruption budget web needs 2 healthy pods and has 2 currently; ")
    assert second.startswith("pod/default/slow: still on worker-1: it was asked to end and has not yet; ")


def test_several_budgets_for_one_pod_are_told_in_the_servers_words() -> None:
    api = FakeApi([pod("web")], refusals=[(500, {"message": "This pod has more than one PodDisruptionBudget"})] * 1000)

    with pytest.raises(Mistake, match="more than one PodDisruptionBudget"):
        drained(api)


def test_a_pod_that_is_gone_meanwhile_is_no_matter() -> None:
    api = FakeApi([pod("web")])
    api.looked = lambda: None
    api.refusals = [(404, {})]
    api.pods[0]["metadata"]["deletionTimestamp"] = "now"

    assert drained(api, within=30) == []


def test_where_nobody_ends_pods_that_they_were_asked_to_is_enough() -> None:
    api = FakeApi([pod("web")], ends=False)

    assert drained(api, ends=False) == ["default/web: evicted"]


def test_what_would_be_lost_for_good_is_named_and_needs_force() -> None:
    volumes = [{"name": "cache", "emptyDir": {}}, {"name": "config", "configMap": {}}]
    api = FakeApi([pod("alone", ""), pod("with-data", volumes=volumes), pod("web", volumes=volumes[1:])])

    with pytest.raises(Mistake) as refused:
        drained(api, within=30)

    assert [f"{finding.where}: {finding.what}" for finding in refused.value.findings] == [
        "pod/default/alone: nothing would make it again",
        "pod/default/with-data: it has data in cache",
    ]
    assert api.seen == []
    assert len(drained(api, within=30, force=True)) == 3


def test_data_that_its_owner_gives_away_and_pods_that_have_ended_are_no_loss() -> None:
    ended = pod("ended", "") | {"status": {"phase": "Succeeded"}}
    given = pod("given", annotations={LOSABLE: "tmp,cache"}, volumes=[{"name": "tmp", "emptyDir": {}}])

    pods = tuple(map(Pod.parse, (ended, given)))

    refuse_losses(pods)
    assert [one.loses for one in pods] == ["", ""]


def test_a_node_that_is_not_there_is_not_cordoned() -> None:
    assert [cordon(FakeApi([], node=there), "worker-1") for there in (True, False)] == [True, False]


def test_a_server_that_refuses_to_tell_is_a_mistake() -> None:
    class Silent(FakeApi):
        def api(self, path: str) -> Answer:  # noqa: ARG002 - whatever is asked
            return answer(403, {"message": "forbidden"})

    with pytest.raises(Mistake, match="forbidden"):
        movable(Silent([]), "worker-1")
