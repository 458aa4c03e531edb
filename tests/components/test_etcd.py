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

from hardway import waiting
from hardway.components import etcd
from hardway.components.etcd import INITIAL_CLUSTER, hand_over, heir, refused, values
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
    seen: list[str] = field(default_factory=list)
    inventory = INVENTORY
    answers: int = 200
    applies: int = 0  # at so many of the next questions, something more
    behind: int = 0  # so often the third still names the old leader
    leader: str = "1"

    def etcd(self, host: Host, path: str, body: Mapping[str, object] | None = None) -> Answer:
        if host in self.ill:
            raise Mistake.at(host.name, "refused")
        if path.endswith("/transfer-leadership"):
            assert body is not None
            self.seen.append(f"{host.name} to {body['targetID']}")
            self.leader = str(body["targetID"])
            return Answer(status=self.answers, body=b"{}")
        member = INVENTORY.on("controller").index(host) + 1
        leads = self.leader
        if path.endswith("/status"):
            self.applies -= self.applies > 0
            if host == THIRD and leads != "1" and self.behind:
                self.behind, leads = self.behind - 1, "1"
            self.seen.append(f"{host.name} {100 - self.applies}, {leads} leads")
        header = {"cluster_id": "9", "member_id": str(member)}
        said = {
            "health": "true",
            "header": header,
            "leader": leads,
            "raftTerm": "2",
            "version": "3",
            "raftAppliedIndex": 100 - self.applies,
        }
        return Answer(status=200, body=json.dumps(said).encode())


def led(members: Members, host: Host) -> Host | None:
    return heir(cast("Live", members), host)


def test_a_member_that_is_well_is_to_lead_in_the_place_of_one_that_does() -> None:
    assert led(Members(ill=frozenset({SECOND})), FIRST) == THIRD


def test_a_follower_has_no_heir() -> None:
    assert led(Members(), SECOND) is None


def test_a_lead_that_nobody_can_take_is_told() -> None:
    with pytest.raises(Mistake, match="no other member is well"):
        led(Members(ill=frozenset({SECOND, THIRD})), FIRST)
    with pytest.raises(Mistake, match="with 500"):
        hand_over(cast("Live", Members(answers=500)), FIRST, SECOND)


def test_a_lead_is_handed_over_after_what_was_asked_before_and_is_over_when_all_know(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Members(applies=3, behind=2)
    monkeypatch.setattr(etcd, "until", lambda ask, **_: waiting.until(ask, within=60, pause=0))  # on a machine that is busy, too

    hand_over(cast("Live", members), FIRST, SECOND)

    before, after = members.seen[: members.seen.index("controller-1 to 2")], members.seen[members.seen.index("controller-1 to 2") + 1 :]
    assert before[:4] == [f"controller-1 {index}, 1 leads" for index in (98, 99, 100, 100)]  # it does not move any more
    assert after == ["controller-3 100, 1 leads", "controller-3 100, 1 leads", "controller-3 100, 2 leads"]


def test_a_hand_over_waits_for_nobody_for_long() -> None:
    busy = Members(applies=10_000, behind=10_000)

    hand_over(cast("Live", busy), FIRST, SECOND)

    assert "controller-1 to 2" in busy.seen


def test_a_member_that_does_not_answer_is_not_waited_for() -> None:
    members = Members(ill=frozenset({THIRD}))

    hand_over(cast("Live", members), FIRST, SECOND)

    assert members.seen[-1] == "controller-1 to 2"


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
