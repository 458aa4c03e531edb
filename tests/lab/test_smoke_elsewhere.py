"""A cluster that is known by a kubeconfig alone: what is announced, what is allowed, and nothing left behind."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hardway.components import images
from hardway.pki.issue import short_lived
from hardway.smoke import CHECKS
from hardway.smoke.removal import IN_A_SPACE, SELECTOR, place
from tests.lab.conftest import ROOT, LabCluster

pytestmark = pytest.mark.lab

SPACE = "theirs"
QUOTA = {"pods": "30", "services": "10", "services.nodeports": "4", "requests.cpu": "1", "requests.memory": "2Gi", "limits.memory": "2Gi"}
SILENCE = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
PROVED = {check.name for check in CHECKS if check.needs == {"api"}}
READING = {check.name for check in CHECKS if check.needs == {"api"} and not any(one.writes for one in check.permissions)}


class Theirs:
    """A cluster as one of its users has it."""

    def __init__(self, cluster: LabCluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory

    @property
    def authority(self) -> str:
        return base64.b64encode(self.cluster.live.credentials.trusts["kubernetes"].bundle.encode()).decode()

    def certificate(self, name: str) -> dict[str, str]:
        pem = base64.b64encode(short_lived(self.cluster.state, "kubernetes", name, None, 30, datetime.now(UTC)).data).decode()
        return {"client-certificate-data": pem, "client-key-data": pem}

    def administrator(self) -> dict[str, str]:
        pem = base64.b64encode(self.cluster.live.credentials.operator("admin").data).decode()
        return {"client-certificate-data": pem, "client-key-data": pem}

    def token(self) -> str:
        """Of the namespace's own account."""
        path = f"/api/v1/namespaces/{SPACE}/serviceaccounts/default/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        token: str = self.cluster.live.request("POST", path, request).json()["status"]["token"]
        return token

    def kubeconfig(self, user: dict[str, Any], **more: str) -> Path:
        server = {"server": self.cluster.inventory.server, "certificate-authority-data": self.authority, **more}
        path = self.directory / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": server}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "there", "context": {"cluster": "c", "user": "u", "namespace": SPACE}}],
        }
        path.write_text(json.dumps(document))
        return path

    def smoke(self, kubeconfig: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """With the inventory of another cluster: nothing of ours is used but its kubectl."""
        image = images.reference(self.cluster.inventory, "agnhost")  # theirs is not brought to these hosts
        argv = [str(ROOT / "inv"), "smoke", "--kubeconfig", str(kubeconfig), "--context", "there", "--image", image, *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL)
        print(f"$ {' '.join(argv)} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def left(self) -> list[str]:
        paths = [
            *(place(SPACE, kind) for kind in IN_A_SPACE),
            *(f"/api/v1/namespaces/{SPACE}/{kind}" for kind in ("secrets", "serviceaccounts")),
        ]
        found = [self.cluster.live.api(f"{path}?{SELECTOR}").json()["items"] for path in paths]
        return [one["metadata"]["name"] for items in found for one in items]


@pytest.fixture(scope="module")
def theirs(cluster: LabCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    """A namespace as a careful administrator gives one away: `restricted`, with a quota, and nobody may talk unless it is allowed."""
    live = cluster.live
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    assert live.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE, "labels": labels}}).status == 201
    for path, body in (
        (f"/api/v1/namespaces/{SPACE}/resourcequotas", {"metadata": {"name": "bounds"}, "spec": {"hard": QUOTA}}),
        (f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies", {"metadata": {"name": "silence"}, "spec": SILENCE}),
    ):
        assert live.request("POST", path, body).status == 201
    yield Theirs(cluster, tmp_path_factory.mktemp("theirs"))
    live.request("DELETE", f"/api/v1/namespaces/{SPACE}")
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for at in (*(f"{rbac}/namespaces/{space}/" for space in (SPACE, "kube-system", "kube-node-lease")), f"{rbac}/cluster"):
        for kind in ("roles", "rolebindings"):
            live.request("DELETE", f"{at}{kind}/hardway-smoke")


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["status"], one["reason"]) for one in json.loads(done.stdout)["checks"]}


def passed(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {name for name, (status, _) in verdicts(done).items() if status == "passed"}


def test_nothing_is_written_before_somebody_has_said_yes(theirs: Theirs) -> None:
    done = theirs.smoke(theirs.kubeconfig(theirs.administrator()))

    assert done.returncode == 1
    assert f"server     {theirs.cluster.inventory.server}\nuser       kubernetes-admin\nnamespace  {SPACE}\n" in done.stderr
    (writes,) = [line for line in done.stderr.splitlines() if line.startswith("writes ")]
    assert f"create, delete configmaps in {SPACE}; create, delete jobs in {SPACE}; create, delete networkpolicies in {SPACE}; " in writes
    assert all(one.endswith(f" in {SPACE}") for one in writes.split("; "))
    assert "nothing was done; add --yes" in done.stderr
    assert theirs.left() == []


def test_a_user_with_the_printed_roles_alone_proves_what_can_be_proved(theirs: Theirs) -> None:
    kubeconfig = theirs.kubeconfig(theirs.certificate("ann"))
    before = theirs.smoke(kubeconfig, "--yes", "--json", "-")
    roles = theirs.directory / "roles.yaml"
    roles.write_text(theirs.smoke(kubeconfig, "--print-rbac").stdout)
    assert theirs.cluster.inv("kubectl", "--", "apply", "-f", str(roles)).returncode == 0

    after = theirs.smoke(kubeconfig, "--yes", "--json", "-")

    assert passed(before) == {"apiserver.ready"}
    assert verdicts(before)["apiserver.json"] == (
        "skipped",
        f"not allowed: create configmaps in {SPACE}, get configmaps in {SPACE}, delete configmaps in {SPACE}",
    )
    assert passed(after) == PROVED
    assert {status for status, _ in verdicts(after).values()} == {"passed", "skipped"}
    assert set(verdicts(after)) == {check.name for check in CHECKS if "disruptive" not in check.needs}
    assert verdicts(after)["etcd.quorum"] == ("skipped", "it needs hosts")
    assert after.returncode == 0
    assert theirs.left() == []
    assert theirs.smoke(kubeconfig, "--cleanup").stdout == "nothing was left\n"


def test_every_way_of_signing_in_that_kubectl_knows_is_ours(theirs: Theirs) -> None:
    account = f"system:serviceaccount:{SPACE}:default"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": theirs.token()}}
    plugin = theirs.directory / "plugin"
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    plugin.chmod(0o755)
    by_plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    users: dict[str, dict[str, Any]] = {
        "a token": {"token": theirs.token()},
        "a plugin": {"exec": by_plugin},
        "impersonation": {**theirs.administrator(), "as": account},
    }

    for how, user in users.items():
        done = theirs.smoke(theirs.kubeconfig(user), "--read-only", "--check", "apiserver.ready", "--json", "-")
        assert (how, passed(done), f"user       {account}\n" in done.stderr) == (how, {"apiserver.ready"}, True)


def test_a_proxy_of_the_kubeconfig_is_used(theirs: Theirs) -> None:
    with proxy() as (url, asked):
        kubeconfig = theirs.kubeconfig(theirs.administrator(), **{"proxy-url": url})
        done = theirs.smoke(kubeconfig, "--read-only", "--json", "-")

    assert passed(done) == READING
    assert verdicts(done)["apiserver.json"] == ("skipped", "it writes, and this run is --read-only")
    assert asked[0].startswith(f"CONNECT {theirs.cluster.inventory.endpoint.address}:")


def test_a_quota_without_room_for_a_pod_skips_what_needs_one(theirs: Theirs) -> None:
    path = f"/api/v1/namespaces/{SPACE}/resourcequotas/bounds"
    assert theirs.cluster.live.request("PATCH", path, {"spec": {"hard": {"pods": "0"}}}).status == 200
    try:
        done = theirs.smoke(theirs.kubeconfig(theirs.administrator()), "--yes", "--check", "proxy.clusterip", "--json", "-")
    finally:
        theirs.cluster.live.request("PATCH", path, {"spec": {"hard": {"pods": QUOTA["pods"]}}})

    status, reason = verdicts(done)["proxy.clusterip"]
    assert (status, "exceeded quota: bounds" in reason) == ("skipped", True)
    assert theirs.left() == []


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"token": "unknown"}, "it answers 401: "),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/none", "interactiveMode": "Never"}}, "/none"),
    ],
)
def test_who_is_not_let_in_is_told_so_in_one_line(theirs: Theirs, user: dict[str, Any], message: str) -> None:
    done = theirs.smoke(theirs.kubeconfig(user), "--read-only")

    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def test_a_context_that_is_not_there_is_told_in_one_line(theirs: Theirs, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("apiVersion: v1\nkind: Config\n")

    done = theirs.smoke(empty, "--read-only")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {empty}: ")


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy that opens tunnels, and what it was asked for."""
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with closing(sink), suppress(OSError):  # either end may go at any time
            while piece := source.recv(65536):
                sink.sendall(piece)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            asked.append(client.recv(4096).decode().splitlines()[0])
            address, _, port = asked[-1].split()[1].partition(":")
            server = socket.create_connection((address, int(port)))
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
