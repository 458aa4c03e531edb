from __future__ import annotations

import os
import platform
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Lab, Networks, Ssh
from hardway.lab import hosts, requirements

ROOT = Path(__file__).parents[2]


def one_host(
    *,
    cluster: str = "small",
    address: str = "10.241.9.11",
    network: str | None = "10.241.9.0/24",
    ssh: Ssh | None = None,
    lab: Lab = "nspawn",
) -> Inventory:
    return Inventory(
        cluster=cluster,
        hosts=(Host(name="controller-1", address=IPv4Address(address), roles=frozenset({"controller"}), ssh=ssh or Ssh()),),
        networks=Networks(
            service_cidr=IPv4Network("10.32.0.0/24"),
            pod_cidr=IPv4Network("10.200.0.0/16"),
            host_cidr=IPv4Network(network) if network else None,
        ),
        endpoint=Endpoint(loadbalancer="none", address=IPv4Address(address)),
        lab=lab,
    )


def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("wants root, to give it up")


def outcome(*setpriv: str) -> str:
    ask = """
from hardway.errors import Mistake
from hardway.lab import requirements
try:
    requirements.privileged()
except Mistake as mistake:
    print(mistake)
"""
    done = subprocess.run(["setpriv", *setpriv, sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_lab_without_root_is_refused_in_one_sentence() -> None:
    as_root()

    assert outcome("--reuid=65534", "--clear-groups").startswith("lab: hosts cannot be made without root; ")


def test_root_without_its_capabilities_is_told_which_are_lacking() -> None:
    as_root()

    said = outcome("--bounding-set=-sys_admin,-net_admin")

    assert said.startswith("lab: hosts cannot be made without CAP_NET_ADMIN, CAP_SYS_ADMIN; ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("lab", "package", "other"), [("nspawn", "systemd-container", "qemu-system-x86"), ("qemu", "qemu-system-x86", "systemd-container")]
)
def test_every_missing_program_is_named_with_its_package(
    lab: Lab, package: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "privileged", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Mistake) as raised:
        requirements.check(one_host(lab=lab))

    programs = {*requirements.PROGRAMS, *requirements.OF_A_KIND[lab]}
    assert {finding.what for finding in raised.value.findings} == {f"{program} is missing" for program in programs}
    assert "apt-get install" in raised.value.findings[0].next_step
    assert package in raised.value.findings[0].next_step
    assert other not in raised.value.findings[0].next_step


def test_vms_are_refused_where_they_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "privileged", lambda: None)
    monkeypatch.setattr(requirements, "PROGRAMS", {})
    monkeypatch.setattr(requirements, "OF_A_KIND", {"qemu": {}})

    monkeypatch.setattr(requirements, "TUN", tmp_path / "tun")
    with pytest.raises(Mistake, match=r"^lab: there is no .*/tun, by which VMs reach the network; `modprobe tun`"):
        requirements.check(one_host(lab="qemu"))

    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(Mistake, match=r"^lab: VMs are made for x86_64 only, and this is aarch64; "):
        requirements.check(one_host(lab="qemu"))


@pytest.mark.parametrize(
    ("inventory", "said"),
    [
        (one_host(cluster="../etc"), "cluster: '../etc' is no DNS label"),
        (one_host(network=None), "networks.host_cidr: the lab needs a network"),
        (one_host(address="10.241.8.11"), "hosts.controller-1.address: 10.241.8.11 is no address of 10.241.9.0/24"),
        (one_host(address="10.241.9.255"), "hosts.controller-1.address: 10.241.9.255 is no address of"),
        (one_host(address="10.241.9.1"), "hosts.controller-1.address: 10.241.9.1 is the lab's own"),
        (one_host(ssh=Ssh(user="admin")), "hosts.controller-1.ssh.user: the lab's hosts are reached as root"),
        (one_host(ssh=Ssh(via="bastion")), "hosts.controller-1.ssh.via: the lab's hosts are reached directly"),
    ],
)
def test_an_inventory_that_is_no_lab_is_refused(inventory: Inventory, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "privileged", lambda: None)
    monkeypatch.setattr(requirements, "PROGRAMS", {})
    monkeypatch.setattr(requirements, "OF_A_KIND", {"nspawn": {}})

    with pytest.raises(Mistake, match="^" + said.replace(".", r"\.")):
        requirements.check(inventory)


def test_taking_down_what_never_was_does_nothing(tmp_path: Path) -> None:
    said: list[str] = []

    hosts.down(one_host(cluster="never-was"), tmp_path / "state", said.append)

    assert said == []
    assert not (tmp_path / "state").exists()
