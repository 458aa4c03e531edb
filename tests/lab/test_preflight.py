"""What would break an installation is found on real hosts, all at once, and stops a push before anything is changed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hardway.inventory import Host
from tests.lab.conftest import LabCluster, booted, shipped
from tests.lab.sabotage import shell, until

pytestmark = pytest.mark.lab

OTHERS = re.compile(r"^  (lb-1|controller-[23]|worker-2):.*\n", re.MULTILINE)
SQUAT = "systemd-run --quiet --unit=squatter /usr/sbin/sshd -D -p 10250"


def on_disk(cluster: LabCluster, host: Host) -> str:
    """Inode and change time of all that a push could have made."""
    return shell(cluster.live, host, "find /etc /opt /usr/local /var/lib /run/hardway -xdev -printf '%p %i %C@\\n' 2>/dev/null | sort || :")


def findings(cluster: LabCluster) -> tuple[int, dict[str, list[str]]]:
    done = cluster.inv("preflight", "--json", "-")
    found = [one for one in json.loads(done.stdout)["findings"] if one["grade"] == "error"]
    assert all(one["next_step"] for one in found)
    return done.returncode, {re.sub(r"process \d+", "process", one["what"]): one["hosts"] for one in found}


def test_all_that_would_break_an_installation_is_told_at_once_and_nothing_is_changed(tmp_path: Path) -> None:
    text = OTHERS.sub("", shipped("pre", 247)).replace("loadbalancer: haproxy", "loadbalancer: none")
    with booted(tmp_path / "pre.yaml", re.sub(r"(  address: 10\.247\.\d+)\.10\n", r"\1.11\n", text)) as cluster:
        live, controller, worker = cluster.live, cluster.controller(), cluster.inventory.on("worker")[0]
        assert findings(cluster) == (0, {})
        shell(live, controller, "mkdir -p /var/lib/etcd/member")
        shell(
            live,
            worker,
            f"{SQUAT}; mkdir -p /etc/kubernetes/manifests; touch /etc/kubernetes/manifests/etcd.yaml; ip link add cni0 type bridge",
        )
        until(lambda: ":10250" in live.run(worker, "ss", "-ltn"))
        before = [on_disk(cluster, host) for host in cluster.inventory.hosts]

        broken = findings(cluster)
        refused = cluster.inv("push")

        assert broken == (
            1,
            {
                "/var/lib/etcd is there before etcd is: of another cluster": ["controller-1"],
                "port 10250 of kubelet is taken by sshd (process, squatter.service)": ["worker-1"],
                "/etc/kubernetes/manifests is there: of another cluster, by kubeadm": ["worker-1"],
                "/sys/class/net/cni0 is there before containerd is: of another cluster": ["worker-1"],
            },
        )
        assert refused.returncode == 1
        assert refused.stderr.count("error: ") == len(broken[1])
        assert all(what in re.sub(r"process \d+", "process", refused.stderr) for what in broken[1])
        assert [on_disk(cluster, host) for host in cluster.inventory.hosts] == before

        shell(live, controller, "rmdir /var/lib/etcd/member")
        shell(live, worker, "systemctl stop squatter; rm -r /etc/kubernetes/manifests; ip link delete cni0")
        assert findings(cluster) == (0, {})
        assert cluster.inv("push").returncode == 0
        assert findings(cluster) == (0, {})  # what our own have made is no leftover
        assert cluster.inv("plan").returncode == 0
