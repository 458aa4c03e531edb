"""Smoke on a cluster that `kubeadm` has made: every check that needs nothing but the API, known by a kubeconfig alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hardway.components import images
from hardway.smoke import CHECKS
from tests.lab.conftest import ROOT, booted
from tests.lab.kubeadm_cluster import KubeadmCluster

pytestmark = [pytest.mark.lab, pytest.mark.full]

SPACE = "proving"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
NETWORK = f"10.248.{os.getpid() % 250 + 1}"
# Of bare hosts: what the roles say is not looked at.
HOSTS = f"""\
cluster: kubeadm-{os.getpid()}
lab: nspawn
networks: {{host_cidr: {NETWORK}.0/24, service_cidr: 10.32.0.0/24, pod_cidr: 10.200.0.0/16}}
endpoint: {{loadbalancer: none, address: {NETWORK}.11}}
hosts:
  node-1: {{address: {NETWORK}.11, roles: [controller]}}
  node-2: {{address: {NETWORK}.12, roles: [worker]}}
"""
# A namespace as a careful administrator gives one away.
GIVEN = """\
{apiVersion: v1, kind: Namespace, metadata: {name: proving, labels: {pod-security.kubernetes.io/enforce: restricted}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: prover, namespace: proving}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: bounds, namespace: proving}
spec: {hard: {pods: 20, services: 10, services.nodeports: 4, requests.cpu: 1, requests.memory: 2Gi, limits.memory: 2Gi}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: silence, namespace: proving}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"""
UNINSTALLED = {"apiserver.aggregation": "there is no v1beta1.metrics.k8s.io: no metrics-server is installed"}
TRIES = 40  # of which each takes more than a second
PROVED = {check.name for check in CHECKS if check.needs == {"api"}} - set(UNINSTALLED)
OTHERS = {
    check.name: f"it needs {', '.join(sorted(check.needs - {'api'}))}"
    for check in CHECKS
    if check.needs != {"api"} and "disruptive" not in check.needs
}


@dataclass
class Run:
    """What a run has said, by its verdicts."""

    done: subprocess.CompletedProcess[str]

    def are(self, status: str) -> dict[str, str]:
        """The checks that ended so, and why."""
        return {one["name"]: one["reason"] for one in json.loads(self.done.stdout)["checks"] if one["status"] == status}


@dataclass
class Theirs:
    """The cluster, and a namespace in it, as one who has a kubeconfig knows them."""

    cluster: KubeadmCluster
    inventory: Path  # of another cluster, which is not there

    def smoke(self, kubeconfig: Path, *words: str) -> subprocess.CompletedProcess[str]:
        image = images.reference(self.cluster.lab.inventory, "agnhost")
        options = ("--kubeconfig", str(kubeconfig), "--namespace", SPACE, "--image", image, *words)
        argv = [str(ROOT / "inv"), "--inventory", str(self.inventory), "smoke", *options]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900, stdin=subprocess.DEVNULL)
        print(f"$ {' '.join(argv)} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def prove(self, kubeconfig: Path, *words: str) -> Run:
        return Run(self.smoke(kubeconfig, "--yes", "--json", "-", *words))

    @property
    def prover(self) -> Path:
        """The kubeconfig of an account of the namespace, by a token that lasts half an hour."""
        path = self.cluster.directory / "prover.conf"
        token = self.cluster.kubectl("--namespace", SPACE, "create", "token", "prover", "--duration=30m").strip()
        document = json.loads(self.cluster.kubectl("config", "view", "--raw", "--minify", "--output=json"))
        document["users"][0]["user"] = {"token": token}
        path.touch(mode=0o600)
        path.write_text(json.dumps(document))
        return path


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    directory = tmp_path_factory.mktemp("kubeadm")
    another = directory / "another.yaml"
    another.write_text((ROOT / "inventory.yaml").read_text().replace("cluster: hardway", f"cluster: another-{os.getpid()}"))
    with booted(directory / "hosts.yaml", HOSTS) as lab:
        cluster = KubeadmCluster(lab=lab, directory=directory)
        cluster.make()
        cluster.kubectl("apply", "--filename", "-", said=GIVEN)
        for made in ("serviceaccount/default", "configmap/kube-root-ca.crt"):
            cluster.kubectl("--namespace", SPACE, "wait", "--for=create", made, "--timeout=120s")
        yield Theirs(cluster, another)


@contextmanager
def nothing_left(cluster: KubeadmCluster) -> Iterator[None]:
    """Afterwards the cluster has the objects that it had before."""
    before = cluster.objects()
    yield
    for _ in range(TRIES):  # what belonged to an object that was deleted goes a little later
        after = cluster.objects()
        if after == before:
            break
    assert (after - before, before - after) == (set(), set())


def test_an_administrator_proves_all_that_takes_no_more_than_the_api(theirs: Theirs) -> None:
    with nothing_left(theirs.cluster):
        run = theirs.prove(theirs.cluster.admin, "--toleration", CONTROL_PLANE)

    assert run.are("failed") == {}
    assert set(run.are("passed")) == PROVED
    assert run.are("skipped") == OTHERS | UNINSTALLED
    assert run.done.returncode == 0


def test_an_account_with_the_printed_roles_alone_proves_as_much_from_a_namespace_with_bounds(theirs: Theirs) -> None:
    roles = theirs.smoke(theirs.prover, "--print-rbac").stdout
    theirs.cluster.kubectl("apply", "--filename", "-", said=roles)
    with nothing_left(theirs.cluster):
        run = theirs.prove(theirs.prover)

    assert run.are("failed") == {}
    assert set(run.are("passed")) == PROVED
    assert f"user       system:serviceaccount:{SPACE}:prover\n" in run.done.stderr
    assert "on node-2" in run.done.stdout
    assert "on node-1" not in run.done.stdout  # its taint is not put up with


@pytest.mark.parametrize(
    ("addon", "label", "patch", "back", "red"),
    [
        (
            "daemonset/kube-proxy",
            "k8s-app=kube-proxy",
            '{"spec": {"template": {"spec": {"nodeSelector": {"nobody": "has-it"}}}}}',
            '{"spec": {"template": {"spec": {"nodeSelector": {"nobody": null}}}}}',
            {"proxy.clusterip", "proxy.nodeport", "dns.service"},
        ),
        ("deployment/coredns", "k8s-app=kube-dns", '{"spec": {"replicas": 0}}', '{"spec": {"replicas": 2}}', {"dns.service"}),
    ],
    ids=["kube-proxy", "coredns"],
)
def test_without_an_addon_the_checks_of_what_it_does_are_red(
    theirs: Theirs, addon: str, label: str, patch: str, back: str, red: set[str]
) -> None:
    cluster = theirs.cluster
    system = "--namespace=kube-system"
    cluster.kubectl(system, "patch", addon, "--patch", patch)
    try:
        cluster.kubectl(system, "wait", "--for=delete", "pods", "--selector", label, "--timeout=300s")
        with nothing_left(cluster):
            run = theirs.prove(cluster.admin, "--toleration", CONTROL_PLANE)
    finally:
        cluster.kubectl(system, "patch", addon, "--patch", back)
        cluster.rolled_out(addon)

    assert set(run.are("failed")) == red
    assert set(run.are("passed")) == PROVED - red
