"""etcd's members are those that it was made with: a file that says otherwise is refused, one that says the same is not."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import PurePosixPath

from hardway.components.etcd import INITIAL_CLUSTER, same_members
from hardway.inventory import Host

HOST = Host(name="controller-1", address=IPv4Address("10.240.0.11"), roles=frozenset({"controller"}))
ONE = "ETCD_INITIAL_CLUSTER=controller-1=https://10.240.0.11:2380\n"
THREE = "# three\nETCD_INITIAL_CLUSTER=" + ",".join(f"controller-{n}=https://10.240.0.1{n}:2380" for n in (1, 2, 3)) + "\n"


def test_more_or_fewer_members_are_refused_with_what_to_do() -> None:
    for old, new, made in ((ONE, THREE, "controller-1,"), (THREE, ONE, "controller-1, controller-2, controller-3,")):
        finding = same_members(HOST, INITIAL_CLUSTER, old, new)

        assert finding is not None
        assert f"its etcd was made with {made}" in finding.what
        assert "put the controllers back" in finding.next_step


def test_another_order_or_comment_is_no_other_membership() -> None:
    assert same_members(HOST, INITIAL_CLUSTER, THREE, THREE.replace("# three", "# others")) is None


def test_other_files_are_not_looked_at() -> None:
    assert same_members(HOST, PurePosixPath("/etc/systemd/system/etcd.service"), ONE, THREE) is None
