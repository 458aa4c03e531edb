"""An image that was brought to a node stays there, and is taken from there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from hardway.binaries.images.oci import Image, pack
from hardway.components import images, preloaded_images
from hardway.inventory import Host
from hardway.lab import hosts
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import shell, until

pytestmark = pytest.mark.lab

CANARY = "canary.local/canary:1"
DROP_IN = "/etc/kubernetes/kubelet/conf.d/test.conf"
# A disk that is as good as full: a kubelet then removes every image that no container uses, before it evicts Pods.
FULL = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: {memory.available: 100Mi, nodefs.available: 1Mi, imagefs.available: 99.9%}
imageMinimumGCAge: 1s
"""


def listed(cluster: LabCluster, host: Host) -> set[str]:
    found = json.loads(cluster.live.run(host, "crictl", "images", "-o", "json"))["images"]
    return {tag for image in found for tag in image["repoTags"]}


def pressed(cluster: LabCluster, host: Host) -> str:
    node = cluster.live.api(f"/api/v1/nodes/{host.name}").json()
    return next((one["status"] for one in node["status"]["conditions"] if one["type"] == "DiskPressure"), "")


def test_a_kubelet_that_wants_for_room_removes_other_images_and_none_that_was_brought(cluster: LabCluster, tmp_path: Path) -> None:
    host = cluster.inventory.on("worker")[-1]
    (tmp_path / "canary").write_text("nothing that runs")
    arch = cluster.live.machine(host).observe(frozenset()).facts.arch
    image = Image(reference=CANARY, arch=arch, programs={"/canary": tmp_path / "canary"}, entrypoint=("/canary",))
    archive = pack(image, tmp_path / "canary.oci")
    importing = [*hosts.ssh(host, cluster.state.root), "ctr --namespace k8s.io images import -"]
    subprocess.run(importing, input=archive.read_bytes(), check=True)
    until(lambda: CANARY in listed(cluster, host))
    brought = {images.reference(cluster.inventory, name) for name in preloaded_images.IMAGES}

    shell(cluster.live, host, 'printf %s "$2" >"$1"; systemctl restart kubelet', DROP_IN, FULL)
    try:
        until(lambda: CANARY not in listed(cluster, host))
        until(lambda: pressed(cluster, host) == "True")
        assert brought <= listed(cluster, host)
    finally:
        shell(cluster.live, host, 'rm "$1"; systemctl restart kubelet', DROP_IN)
    until(lambda: pressed(cluster, host) == "False")
    assert preloaded_images.there(cluster.live, host) is None
    assert cluster.inv("plan").returncode == 0
