"""A VM as it is put together: what it is started with, and what comes to it on its second disk."""

from __future__ import annotations

import os
import subprocess
import tarfile
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hardway.lab.machine import Lab
from hardway.lab.place import KEEPER, Place
from hardway.lab.recipes import CONTAINER
from hardway.lab.recipes import VM as RECIPE
from hardway.lab.vm import VM

FILES = {"etc/hosts": ("127.0.0.1 localhost\n", 0o644), "root/.ssh/authorized_keys": ("ssh-ed25519 AAAA\n", 0o600)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where a host would be kept, with nobody who keeps it."""
    kept: list[dict[str, str]] = []
    monkeypatch.setattr(Place, "stop", lambda _: None)
    monkeypatch.setattr(Place, "keep", lambda _, settings: kept.append(dict(settings)))
    lab = Lab(cluster="small", state=tmp_path / "a, b", network=IPv4Network("10.241.9.0/24"), cgroups=())
    image = tmp_path / "image"
    image.mkdir()
    for name in ("disk", "vmlinuz", "initrd"):
        (image / name).write_text(name)
    place = Place(lab=lab, name="worker-1")
    made = VM(place=place, image=image, accelerator="tcg", login=["false"])
    made.start("10.241.9.21/24", FILES, print)
    assert [settings["kind"] for settings in kept] == ["qemu"]
    return place


def test_the_second_disk_brings_what_the_lab_gives_and_its_address(place: Place) -> None:
    disk = place.directory / "files.tar"

    assert disk.stat().st_size % (1 << 20) == 0
    assert disk.stat().st_mode & 0o777 == 0o600
    with tarfile.open(disk) as archive:
        members = {member.name: member for member in archive}
        assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
        assert (members["./root"].mode, members["./root/.ssh"].mode) == (0o700, 0o700)
        assert members["./root/.ssh/authorized_keys"].mode == 0o600
        network = archive.extractfile("./etc/systemd/network/lab.network")
        assert network
        assert "\nAddress=10.241.9.21/24\nGateway=10.241.9.1\n" in network.read().decode()


def test_the_disk_and_its_kernel_are_copies_that_stay(place: Place, tmp_path: Path) -> None:
    (place.directory / "vm/disk").write_text("written by the host")
    (tmp_path / "image/disk").write_text("a later image")

    VM(place=place, image=tmp_path / "image", accelerator="tcg", login=["false"]).start("10.241.9.21/24", FILES, print)

    assert (place.directory / "vm/disk").read_text() == "written by the host"
    assert (place.directory / "vm/vmlinuz").read_text() == "vmlinuz"


@pytest.mark.parametrize(("accelerator", "expected"), [("kvm", "-accel kvm -cpu host "), ("tcg", "-accel tcg,thread=multi -cpu Westmere ")])
def test_qemu_is_started_on_a_tap_of_the_labs_bridge(place: Place, tmp_path: Path, accelerator: str, expected: str) -> None:
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name in ("ip", "qemu-system-x86_64"):
        (fakes / name).write_text('#!/bin/sh\nprintf "%s" "$(basename "$0")"; for word; do printf " %s" "$word"; done; echo\n')
        (fakes / name).chmod(0o755)
    settings = {"accelerator": accelerator, "uuid": "1-2", "cpus": "2", "memory": "2048", "cgroups": ""}
    environment = place.settings | settings | {"PATH": f"{fakes}:{os.environ['PATH']}"}

    said = subprocess.run(["sh", KEEPER, "qemu"], env=environment, capture_output=True, text=True, check=True).stdout

    tap, plugged, qemu = said.splitlines()
    assert tap == f"ip tuntap add dev {place.device} mode tap"
    assert plugged == f"ip link set {place.device} alias hardway lab: worker-1 master {place.settings['bridge']} up"
    assert expected in qemu
    assert f",ifname={place.device}," in qemu
    assert f"mac={place.settings['mac']}" in qemu
    assert "systemd.hostname=worker-1" in qemu


def test_a_vms_image_has_a_kernel_and_nothing_that_is_for_containers_alone() -> None:
    assert RECIPE.digest() != CONTAINER.digest()
    assert set(RECIPE.packages) - set(CONTAINER.packages) == {"linux-image-cloud-amd64", "udev"}
    assert not [path for path in RECIPE.files if "containerd" in path or "kubelet" in path]
    assert 'chroot "$1" systemctl enable --quiet lab-files.service\n' in RECIPE.hook
