"""What the kit puts into the cluster: compared with the API server's dry run, applied, and taken away when nothing wants it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, cast

import pytest

from hardway import render
from hardway.components import ALL
from hardway.desired import Answer, Manifest
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.inventory.values import Kubelet
from hardway.push import objects
from hardway.push.admission import SECRETS
from hardway.remote.cluster import Cluster

SHIPPED = load(Path(__file__).parent.parent / "inventory.yaml")
WORKER = Host(
    name="worker-9",
    address=IPv4Address("10.240.0.29"),
    roles=frozenset({"worker"}),
    pod_range=IPv4Network("10.200.9.0/24"),
    labels={"a": "b"},
)
INVENTORY = replace(SHIPPED, hosts=(*(host for host in SHIPPED.hosts if "worker" not in host.roles), WORKER))
WANTED = {manifest.name: manifest for component in ALL for manifest in render.manifests(component, INVENTORY)}
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
STRAY = {"metadata": {"name": "hardway:old", "labels": {render.LABEL: render.OWNER}}}


def answer(status: int, body: object) -> Answer:
    return Answer(status=status, body=json.dumps(body).encode())


@dataclass
class FakeApi:
    """An API server that keeps what is applied; `administrator` says whether we have rights."""

    there: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by path
    answers: bool = True
    administrator: bool = True
    refuses: str = ""
    seen: list[str] = field(default_factory=list)
    inventory: Inventory = INVENTORY

    def api(self, path: str) -> Answer:
        if not self.answers:
            raise Mistake.at("https://10.240.0.10:6443", "connection refused")
        if not self.administrator:
            return answer(403, {"message": "forbidden"})
        path, _, query = path.partition("?")
        if query:
            secrets = {"apiVersion": "v1", "kind": "Secret"}
            of = secrets if path == SECRETS else next(one.object for one in WANTED.values() if one.collection == path)
            parent, _, plural = path.rpartition("/")
            listed = [
                # Without kind and version, as the API server lists them.
                {key: value for key, value in one.items() if key not in {"apiVersion", "kind"}}
                for at, one in self.there.items()
                if at.startswith(f"{parent}/") and at.split("/")[-2] == plural and render.LABEL in one["metadata"].get("labels", {})
            ]
            return answer(200, {"apiVersion": of["apiVersion"], "kind": f"{of['kind']}List", "items": listed})
        return answer(200, self.there[path]) if path in self.there else answer(404, {})

    def apply(self, manifest: Manifest, *, dry_run: bool, masters: bool = False, host: Host | None = None) -> Answer:
        if not (self.administrator or masters):
            return answer(403, {"message": "forbidden"})
        if self.refuses:
            return answer(422, {"message": self.refuses})
        if not dry_run:
            self.seen.append(f"apply {manifest.name}{' as system:masters' if masters else ''}{f' by {host.name}' if host else ''}")
            self.there[manifest.path] = manifest.object
        return answer(200, manifest.object)

    def request(self, method: str, path: str, *, host: Host | None = None) -> Answer:
        self.seen.append(f"{method} {path}{f' by {host.name}' if host else ''}")
        return answer(200, self.there.pop(path))


def surveyed(api: FakeApi) -> list[str]:
    return [f"{change.action} {change.what}: {change.why}" for change in objects.survey(cast("Cluster", api)).changes]


def put(api: FakeApi) -> list[str]:
    objects.put(cast("Cluster", api), objects.survey(cast("Cluster", api)).changes, lambda _: None)
    return api.seen


def full() -> FakeApi:
    return FakeApi({manifest.path: manifest.object for manifest in WANTED.values()})


def test_every_object_carries_the_label_by_which_it_is_pruned() -> None:
    assert WANTED
    assert all(manifest.object["metadata"]["labels"][render.LABEL] == render.OWNER for manifest in WANTED.values())
    assert WANTED[f"node/{WORKER.name}"].object["metadata"]["labels"]["a"] == "b"


def test_every_object_has_the_address_at_which_the_api_serves_its_kind() -> None:
    rbac, core = "/apis/rbac.authorization.k8s.io/v1", "/api/v1"

    assert {manifest.object["kind"]: (manifest.collection, manifest.path) for manifest in reversed(WANTED.values())} == {
        kind: (f"{group}/{plural}", f"{group}{f'/namespaces/{space}' if space else ''}/{plural}/{name}")
        for kind, group, space, plural, name in (
            ("APIService", "/apis/apiregistration.k8s.io/v1", "", "apiservices", "v1beta1.metrics.k8s.io"),
            ("ClusterRole", rbac, "", "clusterroles", "system:coredns"),
            ("ClusterRoleBinding", rbac, "", "clusterrolebindings", "hardway:administrators"),
            ("ConfigMap", core, "kube-system", "configmaps", "coredns"),
            ("Deployment", "/apis/apps/v1", "kube-system", "deployments", "coredns"),
            ("Node", core, "", "nodes", WORKER.name),
            ("PodDisruptionBudget", "/apis/policy/v1", "kube-system", "poddisruptionbudgets", "coredns"),
            ("RoleBinding", rbac, "kube-system", "rolebindings", "metrics-server-auth-reader"),
            ("Service", core, "kube-system", "services", "kube-dns"),
            ("ServiceAccount", core, "kube-system", "serviceaccounts", "coredns"),
        )
    }


def test_what_is_there_as_wanted_is_no_change() -> None:
    assert surveyed(full()) == []


def test_what_is_missing_is_created_and_then_there_is_nothing_to_do() -> None:
    api = FakeApi()

    assert surveyed(api) == [f"create {name}: it is not there" for name in WANTED]
    assert put(api) == [f"apply {name} by controller-1" for name in WANTED]
    assert surveyed(api) == []


def test_drift_is_found_and_repaired() -> None:
    api = full()
    (path, one), *_ = api.there.items()
    api.there[path] = {**one, "subjects": []}

    assert [line.split(":")[0] for line in surveyed(api)] == ["apply clusterrolebinding/hardway"]
    put(api)
    assert surveyed(api) == []


def test_an_object_that_lost_our_label_is_repaired_not_created_again() -> None:
    api = full()
    (path, one), *_ = api.there.items()
    api.there[path] = {**one, "metadata": {"name": one["metadata"]["name"]}}

    assert [line.split(" ")[0] for line in surveyed(api)] == ["apply"]


def test_a_token_that_a_push_has_left_goes() -> None:
    api = full()
    asking = replace(INVENTORY, kubelet=Kubelet(tls="bootstrap"))
    for component in ALL:
        api.there |= {manifest.path: manifest.object for manifest in render.manifests(component, asking)}
    left = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}}
    left["metadata"] = {**cast("dict[str, Any]", left["metadata"]), "labels": {render.LABEL: render.OWNER}}
    api.there[f"{SECRETS}/bootstrap-token-abcdef"] = left
    api.inventory = asking

    assert surveyed(api) == ["delete secret/kube-system/bootstrap-token-abcdef: no component puts it there any more"]
    assert put(api) == [f"DELETE {SECRETS}/bootstrap-token-abcdef by controller-1"]
    assert surveyed(api) == []


def test_what_no_component_wants_any_more_goes_and_what_others_made_stays() -> None:
    api = full()
    api.there[f"{BINDINGS}/hardway:old"] = STRAY
    api.there[f"{BINDINGS}/theirs"] = {"metadata": {"name": "theirs"}}

    assert surveyed(api) == ["delete clusterrolebinding/hardway:old: no component puts it there any more"]
    assert put(api) == [f"DELETE {BINDINGS}/hardway:old by controller-1"]
    assert f"{BINDINGS}/theirs" in api.there


def test_while_no_server_answers_everything_is_still_to_be_done() -> None:
    assert surveyed(FakeApi(answers=False)) == [f"create {name}: no API server answers" for name in WANTED]


def test_the_first_binding_is_made_as_system_masters() -> None:
    api = FakeApi(administrator=False)

    assert surveyed(api) == [f"create {name}: the API server answers 403 to us" for name in WANTED]
    assert put(api) == [f"apply {name} as system:masters by controller-1" for name in WANTED]


def test_an_object_that_the_api_server_refuses_is_named_with_its_words() -> None:
    with pytest.raises(Mistake, match="clusterrolebinding/hardway:administrators: the API server refuses it: spec is wrong"):
        surveyed(FakeApi(refuses="spec is wrong"))


def test_a_node_whose_worker_has_left_the_inventory_is_told_and_left_alone() -> None:
    api = full()
    node = {"metadata": {"name": "worker-8", "labels": {render.LABEL: render.OWNER}}}
    api.there["/api/v1/nodes/worker-8"] = {"apiVersion": "v1", "kind": "Node", **node}

    (finding,) = objects.survey(cast("Cluster", api)).departed

    assert finding.warning
    assert str(finding).startswith("node/worker-8: is no worker of the inventory, and is left alone; put it back")
    assert surveyed(api) == []
    api.answers = False
    assert objects.survey(cast("Cluster", api)).departed == ()
