"""What makes members of etcd no cluster is seen, also what a lab cannot be brought to show."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from hardway.desired import Answer, Stage
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.smoke.checks.etcd import GAP, encrypted, quorum
from hardway.smoke.verdict import Failed

HOSTS = tuple(Host(name=f"controller-{i}", address=IPv4Address(f"10.0.0.{i}"), roles=frozenset({"controller"})) for i in (1, 2, 3))
INVENTORY = Inventory(
    cluster="test",
    hosts=HOSTS,
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="none", address=HOSTS[0].address),
)


@dataclass
class FakeEtcd:
    """Three members over one store, and API servers that encrypt."""

    inventory: Inventory = INVENTORY
    namespace: str = "smoke"
    store: dict[str, str] = field(default_factory=dict)  # base64 -> base64
    leased: dict[str, set[str]] = field(default_factory=dict)
    health: str = "true"
    status: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            host.name: {
                "header": {"cluster_id": "1", "member_id": str(i)},
                "leader": "2",
                "raftTerm": "7",
                "raftAppliedIndex": str(100 + i),
                "version": "3.7.3",
            }
            for i, host in enumerate(HOSTS, 1)
        }
    )
    members: list[dict[str, Any]] = field(default_factory=lambda: [{"ID": "1", "name": host.name} for host in HOSTS])
    deaf: str = ""  # the member that does not see what others have written
    seal: Callable[[bytes], bytes] = lambda plain: b"k8s:enc:secretbox:v1:key-1:" + plain[::-1]
    show: Callable[[bytes], bytes] = lambda plain: plain
    plain: dict[str, str] = field(default_factory=dict)

    def etcd(self, host: Host, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        asked = body or {}
        return Answer(status=200, body=json.dumps(self._reply(host, path, asked)).encode())

    def _reply(self, host: Host, path: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: PLR0911 - a table
        match path:
            case "/health":
                return {"health": self.health}
            case "/v3/maintenance/status":
                return self.status[host.name]
            case "/v3/cluster/member/list":
                return {"members": self.members}
            case "/v3/lease/grant":
                self.leased["9"] = set()
                return {"ID": "9"}
            case "/v3/lease/revoke":
                for key in self.leased.pop(asked["ID"]):
                    del self.store[key]
                return {}
            case "/v3/kv/put":
                self.store[asked["key"]] = asked["value"]
                self.leased[asked["lease"]].add(asked["key"])
                return {}
            case "/v3/kv/range":
                found = self.store.get(asked["key"]) if host.name != self.deaf else None
                return {"kvs": [{"value": found}]} if found is not None else {}
        raise AssertionError(path)

    def create(self, path: str, body: Mapping[str, Any], *, host: Host | None = None) -> Mapping[str, Any]:
        del host
        kind, name = path.rpartition("/")[2], body["metadata"]["name"]
        word = body.get("stringData", body.get("data"))["canary"]
        kept = self.seal(word.encode()) if kind == "secrets" else self.show(word.encode())
        self.store[base64.b64encode(f"/registry/{kind}/{self.namespace}/{name}".encode()).decode()] = base64.b64encode(kept).decode()
        self.plain[f"{path}/{name}"] = word
        return body

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        del host
        canary = base64.b64encode(self.plain[path].encode()).decode()
        return Answer(status=200, body=json.dumps({"data": {"canary": canary}}).encode())


def stage(fake: FakeEtcd) -> Stage:
    return cast("Stage", fake)


def test_a_cluster_that_agrees_passes_and_what_was_written_is_gone() -> None:
    fake = FakeEtcd()

    evidence = quorum(stage(fake))

    assert "controller-2 /health, /v3/maintenance/status: healthy, leads in term 7" in evidence
    assert evidence.count("put through") == 3
    assert fake.store == {}


def every(name: str, value: Any) -> Callable[[FakeEtcd], None]:
    return lambda fake: [one.update({name: value}) for one in fake.status.values()].clear()


def third(name: str, value: Any) -> Callable[[FakeEtcd], None]:
    return lambda fake: fake.status["controller-3"].update({name: value})


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        (lambda fake: setattr(fake, "health", "false"), "the member on controller-1 to be healthy; got /health says 200"),
        (third("errors", ["NOSPACE"]), "the member on controller-3 to be healthy; got alarms: NOSPACE"),
        (third("leader", "0"), "it knows of no leader"),
        (third("leader", "3"), "all members to follow one of them; got controller-1 follows 2"),
        (every("leader", "8"), "all members to follow one of them; got controller-1 follows 8"),
        (third("raftTerm", "8"), "one raft term; got controller-1 is in 7"),
        (third("raftAppliedIndex", str(GAP + 102)), f"at most {GAP} entries apart"),
        (lambda fake: fake.members.append({"ID": "4"}), "lists controller-1, controller-2, controller-3, not started"),
        (lambda fake: fake.members[2].update(isLearner=True), "lists controller-1, controller-2, controller-3 (learner)"),
        (lambda fake: setattr(fake, "deaf", "controller-3"), "controller-3 to read what controller-1 has written; got None"),
    ],
)
def test_members_that_do_not_agree_fail_and_leave_nothing(sabotage: Callable[[FakeEtcd], None], reason: str) -> None:
    fake = FakeEtcd()
    sabotage(fake)

    with pytest.raises(Failed) as failed:
        quorum(stage(fake))

    assert reason in str(failed.value)
    assert fake.store == {}


def test_encrypted_secrets_pass_with_the_name_of_the_key_as_evidence() -> None:
    assert "k8s:enc:secretbox:v1:key-1:…" in encrypted(stage(FakeEtcd()))


@pytest.mark.parametrize(
    ("fake", "got"),
    [
        (FakeEtcd(seal=lambda plain: plain), "got its plaintext"),
        (FakeEtcd(seal=lambda plain: b"k8s:enc:secretbox:v1:key-1:" + plain), "got its plaintext"),
        (FakeEtcd(seal=lambda plain: b"k8s:enc:aescbc:v1:key-1:" + plain[::-1]), "got 56 bytes that start otherwise"),
        (FakeEtcd(show=lambda plain: plain[::-1]), "a ConfigMap's value to be readable in etcd, or this check could not tell"),
    ],
    ids=["plain", "plain behind a prefix", "another provider", "the control fails"],
)
def test_secrets_that_can_be_read_fail(fake: FakeEtcd, got: str) -> None:
    with pytest.raises(Failed) as failed:
        encrypted(stage(fake))

    assert got in str(failed.value)
