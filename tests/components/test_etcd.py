"""etcd's members are those that it was made with: a file that says otherwise is refused, one that says the same is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath
from typing import cast

import pytest

from hardway.components.etcd import INITIAL_CLUSTER, hand_over, refused, values
from hardway.desired import Answer, Live
from hardway.errors import Mistake
from hardway.inventory import Host, load

HOST = Host(name="controller-1", address=IPv4Address("10.240.0.11"), roles=frozenset({"controller"}))
ONE = "ETCD_INITIAL_CLUSTER=controller-1=https://10.240.0.11:2380\n"
THREE = "# three\nETCD_INITIAL_CLUSTER=" + ",".join(f"controller-{n}=https://10.240.0.1{n}:2380" for n in (1, 2, 3)) + "\n"


def test_more_or_fewer_members_are_refused_with_what_to_do() -> None:
    for old, new, made in ((ONE, THREE, "controller-1,"), (THREE, ONE, "controller-1, controller-2, controller-3,")):
        finding = refused(HOST, INITIAL_CLUSTER, old, new)

        assert finding is not None
        assert f"its etcd was made with {made}" in finding.what
        assert "put the controllers back" in finding.next_step


def test_another_order_or_comment_is_no_other_membership() -> None:
    assert refused(HOST, INITIAL_CLUSTER, THREE, THREE.replace("# three", "# others")) is None


def test_other_files_are_not_looked_at() -> None:
    assert refused(HOST, PurePosixPath("/etc/systemd/system/etcd.service"), ONE, THREE) is None


INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")
FIRST, SECOND, THIRD = INVENTORY.on("controller")


@dataclass
class Members:
    """Three members, the first of which leads; those named are not well."""

    ill: frozenset[Host] = frozenset()
    moved: list[object] = field(default_factory=list)
    inventory = INVENTORY
    answers: int = 200

    def etcd(self, host: Host, path: str, body: Mapping[str, object] | None = None) -> Answer:
        if host in self.ill:
            raise Mistake.at(host.name, "refused")
        if path.endswith("/transfer-leadership"):
            self.moved.append((host, body))
            return Answer(status=self.answers, body=b"{}")
        member = INVENTORY.on("controller").index(host) + 1
        said = {"health": "true", "header": {"cluster_id": "9", "member_id": str(member)}, "leader": "1", "raftTerm": "2", "version": "3"}
        return Answer(status=200, body=json.dumps(said).encode())


def asked(members: Members, host: Host) -> str | None:
    return hand_over(cast("Live", members), host)


def test_a_leader_hands_over_to_a_member_that_is_well() -> None:
    members = Members(ill=frozenset({SECOND}))

    assert asked(members, FIRST) == "controller-3"
    assert members.moved == [(FIRST, {"targetID": "3"})]


def test_a_follower_has_nothing_to_hand_over() -> None:
    members = Members()

    assert asked(members, SECOND) is None
    assert members.moved == []


def test_a_lead_that_nobody_can_take_is_told() -> None:
    with pytest.raises(Mistake, match="no other member is well"):
        asked(Members(ill=frozenset({SECOND, THIRD})), FIRST)
    with pytest.raises(Mistake, match="with 500"):
        asked(Members(answers=500), FIRST)


class Pages:
    """A member that gives two keys at a time."""

    def __init__(self, *keys: str) -> None:
        self.keys = [key.encode() for key in keys]
        self.asked = 0

    def etcd(self, _: object, path: str, body: dict[str, str]) -> Answer:
        assert path == "/v3/kv/range"
        first, end = base64.b64decode(body["key"]), base64.b64decode(body["range_end"])
        there = [key for key in self.keys if first <= key < end]
        self.asked += 1
        kvs = [{"key": base64.b64encode(key).decode(), "value": base64.b64encode(b"of " + key).decode()} for key in there[:2]]
        return Answer(status=200, body=json.dumps({"kvs": kvs, "more": len(there) > 2}).encode())


def test_values_are_read_page_by_page_and_none_beside_the_prefix() -> None:
    member = Pages("/a", "/b/1", "/b/2", "/b/3", "/b/4", "/b0", "/c")

    found = list(values(cast("Live", member), HOST, "/b/"))

    assert found == [b"of /b/1", b"of /b/2", b"of /b/3", b"of /b/4"]
    assert member.asked == 2
