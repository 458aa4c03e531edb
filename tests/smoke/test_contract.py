"""On a cluster that is not ours a check does no more than it has declared, and only what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from hardway.desired import Answer, Check, Permission, Stage
from hardway.errors import Mistake
from hardway.smoke import CHECKS, contract
from hardway.smoke.verdict import Skipped

WRITES = Permission(resource="pods", verbs=("create", "get", "delete"))
READS = Permission(resource="leases", group="coordination.k8s.io", verbs=("get",), namespace="kube-system", name="kube-scheduler")
PATH = Permission(path="/readyz", verbs=("get",))
NODES = Permission(resource="nodes", verbs=("list",), cluster=True)
LOGS = Permission(resource="pods/log", verbs=("get",))


@dataclass
class FakeReviewer:
    """Allows everything but some verbs."""

    denies: tuple[str, ...] = ()
    status: int = 201
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        assert (method, path) == ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        self.asked.append(body["spec"])
        attributes = body["spec"].get("resourceAttributes") or body["spec"]["nonResourceAttributes"]
        return Answer(status=self.status, body=json.dumps({"status": {"allowed": attributes["verb"] not in self.denies}}).encode())


def check(*permissions: Permission, needs: frozenset[str] = frozenset({"api"})) -> Check:
    return Check(name="a", component="etcd", proves="something", run=lambda _: "evidence", needs=needs, permissions=permissions)


def ends(one: Check, reviewer: FakeReviewer, *, read_only: bool = False) -> str:
    """How a check ends within its bounds: its evidence, or why it was skipped."""
    (bounded,) = contract.bounded([one], reviewer, "theirs", read_only=read_only)
    try:
        return bounded.run(cast("Stage", None))
    except Skipped as skipped:
        return str(skipped)


def test_a_check_that_may_do_all_that_it_declares_runs() -> None:
    assert ends(check(WRITES, READS, PATH), FakeReviewer()) == "evidence"


def test_a_permission_that_is_missing_skips_the_check_and_is_named() -> None:
    assert ends(check(WRITES, READS), FakeReviewer(denies=("delete",))) == "not allowed: delete pods in theirs"
    assert ends(check(READS), FakeReviewer(denies=("get",))) == "not allowed: get leases/kube-scheduler in kube-system"
    assert ends(check(PATH), FakeReviewer(denies=("get",))) == "not allowed: get /readyz"
    assert ends(check(NODES), FakeReviewer(denies=("list",))) == "not allowed: list nodes"
    assert ends(check(LOGS), FakeReviewer(denies=("get",))) == "not allowed: get pods/log in theirs"


def test_each_verb_is_asked_for_where_it_is_needed() -> None:
    reviewer = FakeReviewer()

    ends(check(READS, PATH), reviewer)

    attributes = {"namespace": "kube-system", "verb": "get", "group": "coordination.k8s.io", "resource": "leases", "name": "kube-scheduler"}
    assert reviewer.asked == [{"resourceAttributes": attributes}, {"nonResourceAttributes": {"path": "/readyz", "verb": "get"}}]


def test_a_subresource_and_what_is_in_no_namespace_are_asked_for_as_such() -> None:
    reviewer = FakeReviewer()

    ends(check(LOGS, NODES), reviewer)

    log = {"namespace": "theirs", "subresource": "log", "verb": "get", "group": "", "resource": "pods"}
    nodes = {"namespace": "", "verb": "list", "group": "", "resource": "nodes"}
    assert reviewer.asked == [{"resourceAttributes": log}, {"resourceAttributes": nodes}]


def test_read_only_skips_what_writes_and_nothing_else() -> None:
    assert ends(check(WRITES), FakeReviewer(), read_only=True) == "it writes, and this run is --read-only"
    assert ends(check(READS, PATH), FakeReviewer(), read_only=True) == "evidence"


@pytest.mark.parametrize("need", ["hosts", "disruptive", "namespace"])
def test_what_only_a_cluster_of_ours_can_offer_is_never_begun(need: str) -> None:
    reviewer = FakeReviewer()

    assert ends(check(WRITES, needs=frozenset({"api", need})), reviewer) == f"it needs {need}"
    assert reviewer.asked == []


def test_a_check_that_declares_nothing_is_not_run() -> None:
    assert ends(check(), FakeReviewer()) == "it is for clusters of this kit"


def test_an_api_server_that_does_not_say_what_is_allowed_stops_the_run() -> None:
    with pytest.raises(Mistake, match="answers 500"):
        ends(check(WRITES), FakeReviewer(status=500))


def test_what_will_be_written_is_told_without_what_is_skipped() -> None:
    skipped = contract.bounded([check(WRITES)], FakeReviewer(denies=("create",)), "theirs", read_only=False)

    assert contract.writes([check(WRITES, READS)], "theirs") == ("create, delete pods in theirs",)
    assert contract.writes(skipped, "theirs") == ()


def test_the_roles_hold_what_is_declared_by_namespace_and_no_more() -> None:
    text = contract.roles([check(WRITES, READS, PATH), check(WRITES, needs=frozenset({"hosts"}))], "theirs", "ann")

    documents = list(YAML(typ="safe", pure=True).load_all(StringIO(text)))
    assert [(one["kind"], one["metadata"]["namespace"]) for one in documents] == [
        ("Role", "theirs"),
        ("RoleBinding", "theirs"),
        ("Role", "kube-system"),
        ("RoleBinding", "kube-system"),
    ]
    theirs, binding, system, _ = documents
    assert {rule["resources"][0]: rule["verbs"] for rule in theirs["rules"]} == {
        "pods": ["create", "delete", "get", "list"],
        "configmaps": ["delete", "list"],
        "services": ["delete", "list"],
        "networkpolicies": ["delete", "list"],
        "jobs": ["delete", "list"],
    }
    assert system["rules"] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["kube-scheduler"], "verbs": ["get"]}
    ]
    assert binding["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]


def test_what_is_in_no_namespace_takes_a_cluster_role() -> None:
    text = contract.roles([check(NODES)], "theirs", "ann")

    role, binding = (one for one in YAML(typ="safe", pure=True).load_all(StringIO(text)) if one["kind"].startswith("Cluster"))
    assert (role["metadata"], role["rules"]) == (
        {"name": "hardway-smoke"},
        [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
    )
    assert (binding["metadata"], binding["roleRef"]["kind"]) == ({"name": "hardway-smoke"}, "ClusterRole")


def test_every_check_that_needs_an_api_alone_says_what_it_does_with_it() -> None:
    assert [one.name for one in CHECKS if one.needs == {"api"} and not one.permissions] == []


def test_no_check_that_runs_on_clusters_of_others_writes_outside_the_namespace() -> None:
    elsewhere = [
        p for one in CHECKS if one.needs <= contract.HAVE for p in one.permissions if p.writes and (p.namespace or p.cluster or p.path)
    ]
    assert elsewhere == []
