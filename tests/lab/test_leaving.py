"""Workers join and leave a cluster that is in use, and a reset leaves a host as it was before the first push."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from hardway import pod_ranges
from hardway.components import images, installed
from tests.lab.conftest import LabCluster, booted
from tests.lab.sabotage import shell, until

pytestmark = pytest.mark.lab

NETWORK = f"10.247.{os.getpid() % 250 + 1}"
WORKERS = {"worker-1": 21, "worker-2": 22}
INVENTORY = f"""
cluster: leaving-{os.getpid()}
lab: nspawn
networks: {{host_cidr: {NETWORK}.0/24, service_cidr: 10.37.0.0/24, pod_cidr: 10.207.0.0/16}}
endpoint: {{loadbalancer: none, address: {NETWORK}.11, port: 6443}}
hosts:
  controller-1: {{address: {NETWORK}.11, roles: [controller]}}
"""

# All that a push could leave on a host: files, rules, routes, interfaces, mounts, users, control groups, processes of ours.
SHOW = r"""
find / /run -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /root -o -path /run/log -o -path /run/systemd \
  -o -path /run/user -o -path /run/agetty.reload -o -path /var/log/journal -o -path /var/lib/systemd \) -prune -o -printf '%y %m %u:%g %p\n'
nft --stateless list ruleset | sed 's/^/nft /'
iptables-save | sed -n 's/^[:-]/iptables &/p'
ip -4 route | sed 's/^/route /'
ip -o link | sed 's/^[0-9]*: /link /;s/[@:].*//'
cut -d' ' -f5 /proc/self/mountinfo | sed 's/^/mount /'
getent passwd | sed 's/^/user /'; getent group | sed 's/^/group /'
find /sys/fs/cgroup -maxdepth 2 -name 'kubepods*' -printf 'cgroup %p\n'
for exe in /proc/[0-9]*/exe; do readlink "$exe" || :; done | sed -n 's|^/usr/local/bin|process &|p'
systemctl list-units --all --plain --no-legend --state=loaded --type=service | sed 's/ .*//;s/^/unit /'
"""
# A place of the lab's own, whose mode containerd changes; what programs that make users or rules leave.
MEANS_NOTHING = (
    " /var/lib/containerd",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/.pwd.lock",
    "/run/xtables.lock",
)


def inventory(*workers: str) -> str:
    return INVENTORY + "".join(f"  {name}: {{address: {NETWORK}.{WORKERS[name]}, roles: [worker]}}\n" for name in workers)


class Lab:
    """One controller and one worker in a cluster, one host beside it."""

    def __init__(self, cluster: LabCluster) -> None:
        self.cluster = cluster
        self.hosts = {host.name: host for host in cluster.inventory.hosts}  # also those that leave the inventory
        self.live = cluster.live  # reaches all three
        self.before = {name: self.shows(name) for name in self.hosts}

    def shows(self, name: str) -> set[str]:
        lines = shell(self.live, self.hosts[name], SHOW).splitlines()
        return {line for line in lines if not line.endswith(MEANS_NOTHING)}

    def choose(self, *workers: str) -> None:
        self.cluster.path.write_text(inventory(*workers))

    def inv(self, *words: str, ends: int = 0) -> str:
        done = self.cluster.inv(*words)
        assert done.returncode == ends
        return done.stdout + done.stderr

    def kubectl(self, *words: str) -> str:
        done = self.cluster.inv("kubectl", "--", *words)
        assert done.returncode == 0
        return done.stdout

    def invocations(self, name: str) -> dict[str, str]:
        """By unit: another one after each start."""
        units = [component.unit for component in installed(self.cluster.inventory, self.hosts[name])]
        said = self.live.run(self.hosts[name], "systemctl", "show", "-p", "Id,InvocationID", *units)
        return {block.split("Id=")[-1].split()[0]: block for block in said.split("\n\n")}

    def routes(self, name: str) -> list[str]:
        said = self.live.run(self.hosts[name], "ip", "-4", "route", "show", "proto", "86")
        return [line.split()[0] for line in said.splitlines()]

    def node(self, name: str) -> Mapping[str, Any] | None:
        answer = self.live.api(f"/api/v1/nodes/{name}")
        return answer.json() if answer.status == 200 else None


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with booted(tmp_path_factory.mktemp("inventory") / "inventory.yaml", inventory(*WORKERS)) as cluster:
        made = Lab(cluster)
        made.choose("worker-1")
        made.inv("push")
        yield made


def ready(lab: Lab) -> int:
    pods = lab.live.api("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb").json()["items"]
    conditions = [
        {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return sum(one.get("Ready") == "True" for one in conditions)


@contextmanager
def counted(lab: Lab) -> Iterator[list[int]]:
    """How many Pods are ready, again and again while the context lasts."""
    counts, over = [ready(lab)], threading.Event()

    def count() -> None:
        while not over.wait(0.2):
            counts.append(ready(lab))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def budget(least: int) -> str:
    """For three Pods, of which the third goes where the others are not, if there is a place."""
    return json.dumps({"spec": {"minAvailable": least}})


def test_a_worker_joins_by_a_push_and_leaves_as_budgets_allow(lab: Lab) -> None:
    units = {name: lab.invocations(name) for name in ("controller-1", "worker-1")}
    lab.choose(*WORKERS)

    lab.inv("push")

    assert "nothing to change" in lab.inv("push")
    node = lab.node("worker-2")
    assert node
    assert lab.routes("worker-1") == lab.routes("controller-1")[1:] == [node["spec"]["podCIDR"]]
    for name, before in units.items():
        now = lab.invocations(name)
        assert [unit for unit in before if now[unit] != before[unit]] == ["pod-network.service"]

    lab.choose("worker-1")
    assert "warning: node/worker-2: is no worker of the inventory, and is left alone" in lab.inv("plan", ends=2)
    lab.choose(*WORKERS)

    image = images.reference(lab.cluster.inventory, "pause")
    lab.kubectl("cordon", "worker-1")  # so that all of them are where nobody may stay
    lab.kubectl("create", "deployment", "web", f"--image={image}", "--replicas=3")
    lab.kubectl("create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=3")
    until(lambda: ready(lab) == 3)
    lab.kubectl("uncordon", "worker-1")
    with counted(lab) as counts:
        said = lab.inv("worker.remove", "worker-2", "--within", "5s", ends=1)
        assert "The disruption budget web needs 3 healthy pods and has 3 currently" in said
        assert lab.node("worker-2")
        lab.kubectl("patch", "poddisruptionbudget", "web", "--type=merge", "--patch", budget(2))

        said = lab.inv("worker.remove", "worker-2", "--within", "5m")
    assert min(counts) >= 2
    assert "now take worker-2 out of" in said
    assert lab.node("worker-2") is None
    assert lab.shows("worker-2") - lab.before["worker-2"] == set()
    assert set(pod_ranges.kept(lab.cluster.state)) == {"worker-1"}
    assert lab.cluster.state.glob("pki/*/*@worker-2.pem") == ()

    lab.choose("worker-1")
    assert "left alone" not in lab.inv("push")
    assert lab.routes("worker-1") == []
    lab.kubectl("delete", "deployment,poddisruptionbudget", "web")


CANARIES = """
mkdir -p /etc/kubernetes/kubelet/conf.d /srv/precious /var/lib/kubelet/theirs
echo '# theirs' >/etc/kubernetes/theirs.yaml; echo data >/srv/precious/data
mount --bind /srv/precious /var/lib/kubelet/theirs
printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/etc/systemd/system/theirs.service
systemctl daemon-reload; systemctl start theirs
nft add table ip theirs; iptables -A INPUT -s 192.0.2.7 -j DROP; ip route add blackhole 192.0.2.0/24
"""
REMOVE_CANARIES = """
systemctl stop theirs; rm -r /etc/systemd/system/theirs.service /etc/kubernetes/theirs.yaml /srv/precious
nft delete table ip theirs; iptables -D INPUT -s 192.0.2.7 -j DROP; ip route del blackhole 192.0.2.0/24
"""


@pytest.fixture
def canaries(lab: Lab) -> Iterator[None]:
    """What its owner has on a worker, beside ours and below it."""
    shell(lab.live, lab.hosts["worker-1"], CANARIES)
    yield
    shell(lab.live, lab.hosts["worker-1"], REMOVE_CANARIES)


@pytest.mark.usefixtures("canaries")
def test_a_reset_of_one_host_leaves_what_is_its_owners_and_a_push_puts_it_up_again(lab: Lab) -> None:
    units = lab.invocations("worker-1")

    said = lab.inv("reset", "--hosts", "worker-1", ends=2)
    assert "kubelet.service" in said
    assert "theirs" not in said
    assert lab.invocations("worker-1") == units

    lab.inv("reset", "--hosts", "worker-1", "--yes")

    left = lab.shows("worker-1") - lab.before["worker-1"]
    for one in (
        "/etc/kubernetes/theirs.yaml",
        "/srv/precious/data",
        "/etc/systemd/system/theirs.service",
        "theirs.service",
        "192.0.2.0/24 ",
    ):
        assert [line for line in left if line.endswith(one)], one
    assert any(line.startswith("nft table ip theirs") for line in left)
    assert any("192.0.2.7" in line for line in left)
    ours = ("kubelet", "kube-", "KUBE-", "containerd", "hardway", "cni", "pods")
    assert [line for line in left if any(word in line for word in ours)] == []
    assert shell(lab.live, lab.hosts["worker-1"], "cat /srv/precious/data") == "data\n"

    lab.inv("push")
    assert "nothing to change" in lab.inv("plan")
    assert lab.node("worker-1")


def test_a_reset_of_all_hosts_leaves_them_as_they_were_and_a_cluster_comes_up_again(lab: Lab) -> None:
    bundle = lab.cluster.live.credentials.trusts["kubernetes"].bundle

    lab.inv("reset", "--yes")

    assert {name: lab.shows(name) - before for name, before in lab.before.items()} == {name: set() for name in lab.before}
    assert "nothing of the kit is there" in lab.inv("reset")
    lab.inv("up")
    lab.cluster.read_again()
    assert lab.cluster.live.credentials.trusts["kubernetes"].bundle == bundle
    assert lab.node("worker-1")
