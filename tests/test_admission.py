"""A token for one host: made, used for the one request that fits, and gone again whatever comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hardway.components.kubelet import OWN
from hardway.desired import Answer
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.observed import Asked, Facts, Observed, OnDisk
from hardway.pki.pair import leaf, root
from hardway.pki.request import Request
from hardway.pki.trust import Generation, Trust
from hardway.push import admission
from hardway.push.admission import REQUESTS, SECRETS, admit
from hardway.remote.cluster import Cluster
from hardway.remote.protocol import Apply
from tests.pki.test_own import WORKER, spec

NOW = datetime.now(UTC)
AUTHORITY = root("cluster-signing-2026a", keys="ec", days=10, now=NOW)


def certificate() -> bytes:
    request = Request(authority="x", certificate="x", common_name=OWN.name(WORKER), organization=OWN.organization, usages=("client",))
    return leaf(request, AUTHORITY, now=NOW, lifetime=timedelta(days=1)).certificate.public_bytes(Encoding.DER)


@dataclass
class FakeMachine:
    cluster: FakeCluster

    def observe(self, paths: frozenset[PurePosixPath], _units: object = (), asked: Asked = Asked()) -> Observed:  # noqa: B008 - frozen
        facts = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="", clock=NOW.timestamp(), disk_free=0, memory=0)
        files = {path: OnDisk(sha256="0" * 64, mode=0o600, owner="root:root") for path in paths if path in self.cluster.files}
        return Observed(
            facts=facts, files=files, certificates={path: self.cluster.given for path in asked.certificates if self.cluster.given}
        )

    def run(self, *argv: str) -> str:
        self.cluster.seen.append(" ".join(argv))
        return ""

    def apply(self, change: Apply) -> None:
        for move, content in zip(change.moves, change.contents, strict=True):
            self.cluster.files[move.path] = content
            assert (move.mode, move.owner) == (0o600, "root:root")
        for removal in change.removals:
            del self.cluster.files[removal.path]


@dataclass
class FakeCluster:
    """An API server that keeps Secrets and requests and signs what is approved, and the one host."""

    refuses: int = 0  # the status with which it answers to a Secret
    secrets: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    files: dict[PurePosixPath, bytes] = field(default_factory=dict)
    given: bytes = b""
    seen: list[str] = field(default_factory=list)

    @property
    def credentials(self) -> Any:
        one = Generation(
            authority=OWN.authority,
            name="2026a",
            common_name="",
            ski="",
            not_before=NOW,
            not_after=NOW,
            certificate=AUTHORITY.certificate_pem.decode(),
        )

        class Known:
            trusts = {OWN.authority: Trust(trusted=(one,), signer=one)}  # noqa: RUF012 - only read

        return Known

    def machine(self, host: Host) -> FakeMachine:
        assert host == WORKER
        return FakeMachine(self)

    def api(self, path: str) -> Answer:
        body = {"items": self.requests} if path == REQUESTS else {}
        return Answer(status=200, body=json.dumps(body).encode(), date=NOW.timestamp())

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        if method == "POST":
            assert path == SECRETS
            assert body
            if not self.refuses:
                self.secrets[f"{path}/{body['metadata']['name']}"] = body
            return Answer(status=self.refuses or 201, body=b"")
        if method == "DELETE":
            del self.secrets[path]
            return Answer(status=200, body=b"")
        assert body
        name = body["metadata"]["name"]
        assert path == f"{REQUESTS}/{name}/approval"
        stored = next(one for one in self.requests if one["metadata"]["name"] == name)
        stored["status"] = body["status"]
        verdict = body["status"]["conditions"][-1]["type"]
        self.seen.append(f"{verdict} {name}")
        if verdict == "Approved":
            self.given = certificate()
        return Answer(status=200, body=b"")

    def ask(self, name: str, user: str = "", **other: Any) -> None:
        """As the kubelet does it, with the token that it finds."""
        token = self.files[OWN.token].decode()
        (secret,) = self.secrets.values()
        assert token == f"{secret['stringData']['token-id']}.{secret['stringData']['token-secret']}"
        user = user or f"system:bootstrap:{token.partition('.')[0]}"
        self.requests.append({"metadata": {"name": name}, "spec": {"username": user, **spec(**other)}})


def admitted(cluster: FakeCluster, start: Callable[[], None]) -> list[str]:
    told: list[str] = []
    admit(cast("Cluster", cluster), WORKER, OWN, start, told.append)
    return told


def refused(cluster: FakeCluster, start: Callable[[], None]) -> str:
    with pytest.raises(Mistake) as stopped:
        admitted(cluster, start)
    return str(stopped.value)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PAUSE", 0.0)


def test_the_token_is_there_before_the_start_and_gone_once_the_host_has_its_certificate() -> None:
    cluster = FakeCluster()
    tokens: list[str] = []

    def start() -> None:
        cluster.ask("csr-1")
        tokens.extend(text.decode() for text in cluster.files.values())

    told = admitted(cluster, start)

    assert cluster.seen == [f"rm -f {OWN.path}", "Approved csr-1"]
    assert (cluster.secrets, cluster.files) == ({}, {})
    assert told == ["worker-1: has its own certificate for system:node:worker-1"]
    assert not any(part in line for part in tokens[0].split(".") for line in (*told, *cluster.seen))


def test_the_token_is_good_for_minutes_and_for_asking_alone() -> None:
    cluster = FakeCluster()
    kept: list[Mapping[str, Any]] = []

    def start() -> None:
        cluster.ask("csr-1")
        kept.extend(cluster.secrets.values())

    admitted(cluster, start)

    (secret,) = kept
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert datetime.fromisoformat(secret["stringData"]["expiration"]) <= NOW + admission.LIFE
    assert secret["stringData"]["auth-extra-groups"] == "system:bootstrappers:hardway"
    assert [key for key, value in secret["stringData"].items() if value == "true"] == ["usage-bootstrap-authentication"]


def test_what_others_have_asked_for_is_left_to_others() -> None:
    cluster = FakeCluster()

    def start() -> None:
        cluster.ask("csr-1", user="system:bootstrap:other1")
        cluster.ask("csr-2", user="system:node:worker-1")
        cluster.ask("csr-3")

    admitted(cluster, start)

    assert cluster.seen[1:] == ["Approved csr-3"]


def test_anything_else_that_is_asked_with_the_token_is_denied_and_stops_the_push() -> None:
    cluster = FakeCluster()

    why = refused(cluster, lambda: cluster.ask("csr-1", signerName="kubernetes.io/kubelet-serving"))

    assert why.startswith("worker-1: what was asked with its token, csr-1, is denied: it is for the signer kubernetes.io/kubelet-serving;")
    assert cluster.seen[1:] == ["Denied csr-1"]
    assert (cluster.secrets, cluster.files) == ({}, {})


def test_a_second_request_is_denied_although_it_is_as_good_as_the_first() -> None:
    cluster = FakeCluster()

    def start() -> None:
        cluster.ask("csr-1")
        cluster.ask("csr-2")

    assert "csr-2, is denied: it has asked once already" in refused(cluster, start)
    assert cluster.seen[1:] == ["Approved csr-1", "Denied csr-2"]


def test_a_start_that_fails_leaves_no_token() -> None:
    cluster = FakeCluster()

    def start() -> None:
        raise Mistake.at("worker-1", "no space")

    assert refused(cluster, start) == "worker-1: no space"
    assert (cluster.secrets, cluster.files) == ({}, {})


def test_a_kubelet_that_does_not_ask_stops_the_push_and_leaves_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WITHIN", 0.05)
    cluster = FakeCluster()

    assert "it has no certificate of its own after 0 s: it has not asked yet" in refused(cluster, lambda: None)
    assert (cluster.secrets, cluster.files) == ({}, {})


def test_a_signer_that_refuses_stops_the_push(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()

    def failing(method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        found = FakeCluster.request(cluster, method, path, body)
        if method == "PUT":
            cluster.given = b""
            cluster.requests[0]["status"]["conditions"].append({"type": "Failed", "message": "usages are not known"})
        return found

    monkeypatch.setattr(cluster, "request", failing)

    assert "the signer refuses it: usages are not known" in refused(cluster, lambda: cluster.ask("csr-1"))


def test_without_a_token_in_the_cluster_nothing_is_done_on_the_host() -> None:
    cluster = FakeCluster(refuses=403)

    assert "the API server answers 403 to a bootstrap token" in refused(cluster, lambda: pytest.fail("it is not started"))
    assert (cluster.seen, cluster.files) == ([], {})


def test_a_token_shows_in_no_repr() -> None:
    token = admission.Token.new()

    assert token.secret not in repr(token)
    assert len(token.text) == 6 + 1 + 16
