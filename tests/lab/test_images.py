"""Our images in a containerd of this test's own: they are imported by the names that Pods ask for, and run."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hardway.binaries import CACHE, fetch
from hardway.binaries.images import RECIPES, SUFFIX
from hardway.components.images import PUBLISHED, reference
from hardway.inventory import load
from hardway.lab import hosts, image, recipes
from tests.lab import kubeadm_images

INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
# Without what speaks CRI: nothing of this machine's network is touched.
CONFIG = """
version = 3
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
address = "/run/containerd/containerd.sock"
[ttrpc]
address = "/run/containerd/containerd.sock.ttrpc"
"""
START = 'mkdir -p /run/containerd && mount -t tmpfs none /run/containerd && exec containerd --config "$0"'
Ctr = Callable[..., str]


@pytest.fixture(scope="module")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctr]:
    """`ctr` against a containerd that has its own files, sockets and mounts, with all images imported."""
    folder = tmp_path_factory.mktemp("containerd")
    archives = [f"{name}{SUFFIX}" for name in RECIPES]
    brought = fetch([*PROGRAMS, *archives], HERE, INVENTORY, CACHE, print)
    for program in PROGRAMS:
        (folder / program).symlink_to(brought[program].path)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", START, str(folder / "config.toml")]
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as containerd:

        def run(*words: str) -> str:
            within = ["nsenter", "--mount", "--target", str(containerd.pid), "ctr", "--namespace", "k8s.io", *words]
            return subprocess.run(within, env=env, check=True, capture_output=True, text=True, timeout=120).stdout

        assert containerd.stderr
        assert any("containerd successfully booted" in line for line in containerd.stderr)
        try:
            for archive in archives:
                run("images", "import", "--label", "io.cri-containerd.pinned=pinned", str(brought[archive].path))
            yield run
        finally:
            containerd.terminate()
            containerd.stderr.read()


@pytest.mark.lab
def test_every_image_has_the_name_that_pods_ask_for(ctr: Ctr) -> None:
    listed = [line.split() for line in ctr("images", "list").splitlines()]

    pinned = {line[0] for line in listed if line[-1] == "io.cri-containerd.pinned=pinned"}
    assert pinned == {reference(INVENTORY, name) for name in PUBLISHED}


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "argv", "said"),
    [
        ("pause", ("/pause", "-v"), "pause.c v1.37.2\n"),
        ("coredns", ("/coredns", "-version"), "CoreDNS-1.15.0\n"),
        ("metrics-server", ("/metrics-server", "--version"), "v0.9.0\n"),
        ("agnhost", ("sh", "-c", "echo good | sed s/good/well/; /agnhost pause --help"), "well\n"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_every_image_runs(name: str, argv: tuple[str, ...], said: str, ctr: Ctr) -> None:
    assert ctr("run", "--rm", reference(INVENTORY, name), name, *argv).startswith(said)


@pytest.mark.lab
@pytest.mark.full
def test_what_kubeadm_pulls_can_be_packed_of_our_programs(ctr: Ctr, tmp_path: Path) -> None:
    version = INVENTORY.versions.kubernetes
    brought = fetch(kubeadm_images.PROGRAMS, HERE, INVENTORY, CACHE, print)
    programs = {name: one.path for name, one in brought.items()}
    wanted = kubeadm_images.listed(programs["kubeadm"], version)

    for archive in kubeadm_images.archives(
        programs, version, HERE, image.ensure(recipes.CONTAINER, hosts.cache(), print), tmp_path
    ).values():
        ctr("images", "import", str(archive))

    assert set(wanted.values()) <= set(ctr("images", "list", "--quiet").split())
    assert ctr("run", "--rm", wanted["kube-proxy"], "proxy", "nft", "--version").startswith("nftables v1.")
    assert ctr("run", "--rm", wanted["etcd"], "etcd", "etcd", "--version").startswith("etcd Version: 3.7.3\n")
