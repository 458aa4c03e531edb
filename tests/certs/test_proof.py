"""A renewed certificate is proved where it shows; what does not show in time is said not to be proved."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import cast

import pytest

from hardway import proof
from hardway.desired import Shown
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.pki import tls
from hardway.pki.declared import Declarations
from hardway.proof import Renewed, prove, renewed, until
from hardway.remote.cluster import Cluster
from tests.certs.conftest import FakeCluster

SERVING = PurePosixPath("/etc/kubernetes/kube-scheduler/serving.pem")
CLIENT = PurePosixPath("/etc/kubernetes/kube-scheduler/client.pem")
KUBELET = PurePosixPath("/etc/kubernetes/kubelet/client.pem")
ETCDCTL = PurePosixPath("/etc/etcd/pki/etcdctl.pem")


def one(cluster: FakeCluster, declarations: Declarations, path: PurePosixPath) -> Renewed:
    (found,) = renewed(cast("Cluster", cluster), declarations, [("controller-2", path)])
    return found


def test_a_certificate_is_found_by_where_it_lies(cluster: FakeCluster, declarations: Declarations) -> None:
    client = one(cluster, declarations, CLIENT)

    assert (str(client), client.common_name, client.reader) == ("kube-scheduler on controller-2", "system:kube-scheduler", "kube-scheduler")
    assert client.client
    assert not one(cluster, declarations, SERVING).client


def test_what_is_served_is_looked_for_on_its_port(
    cluster: FakeCluster, declarations: Declarations, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    monkeypatch.setattr(proof, "SLACK", -10.0)  # no time at all
    several = [one(cluster, declarations, SERVING)]

    (good,) = prove(cast("Cluster", cluster), several, print)
    cluster.other["controller-2", 10259] = Shown(serial=0xABC, issuer="x", not_after=now)
    (bad,) = prove(cast("Cluster", cluster), several, print)

    assert good.how.startswith("served on 10259 ")
    assert (bad.how, "port 10259 shows abc, issued is " in bad.failure) == ("", True)


def test_a_client_that_looks_every_few_minutes_is_proved_by_the_log_of_requests(
    cluster: FakeCluster, declarations: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = one(cluster, declarations, CLIENT)
    monkeypatch.setattr(proof, "_is_accepted", lambda *_: "accepted")
    monkeypatch.setattr(proof, "_within", lambda _: 0.0)
    logged: list[str] = []

    def run(host: Host, *argv: str) -> str:
        assert (host.name, argv[0]) == ("controller-2", "sh")
        assert argv[-1] == '"userAgent":"kube-scheduler/'  # not we, who show it first
        return "yes\n" if argv[-3] in logged else ""

    monkeypatch.setattr(cluster, "run", run, raising=False)
    (unused,) = prove(cast("Cluster", cluster), [client], print)
    (unwaited,) = prove(cast("Cluster", cluster), [client], print, wait=False)
    logged.append(f"X509SHA256={tls.fingerprint(client.pair)}")
    (used,) = prove(cast("Cluster", cluster), [client], print)

    assert "kube-scheduler has sent no request with it" in unused.failure
    assert unwaited.how == "accepted; kube-scheduler takes it within five minutes, which was not waited for"
    assert used.how.startswith("accepted, used by kube-scheduler after ")


def test_kubelets_are_made_to_ask_the_api_until_they_have_taken_theirs(
    cluster: FakeCluster, declarations: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nobody else waits for the answer that goes with a connection."""
    kubelets = [
        *renewed(cast("Cluster", cluster), declarations, [(host, KUBELET) for host in ("worker-1", "worker-2")]),
        *renewed(cast("Cluster", cluster), declarations, [("controller-2", CLIENT)]),
    ]
    asked: list[tuple[str, int]] = []

    def judged(host: Host, port: int) -> int:
        asked.append((host.name, port))
        raise Mistake.at(host.name, "it has gone away")

    def run(host: Host, *argv: str) -> str:  # noqa: ARG001 - whoever is asked
        return "yes\n" if 'userAgent":"kubelet/' not in argv[-1] or len(asked) > 5 else ""

    monkeypatch.setattr(proof, "_is_accepted", lambda *_: "accepted")
    monkeypatch.setattr(proof, "STIRRED", 0)
    monkeypatch.setattr(proof, "SLOWLY", 0)
    monkeypatch.setattr(cluster, "judged", judged, raising=False)
    monkeypatch.setattr(cluster, "run", run, raising=False)
    prove(cast("Cluster", cluster), kubelets, print, wait=False)
    assert asked == []

    proofs = prove(cast("Cluster", cluster), kubelets, print)

    assert [one.failure for one in proofs] == ["", "", ""]
    assert set(asked) == {("worker-1", 10250), ("worker-2", 10250)}


def test_one_that_no_daemon_reads_is_there_or_refused_by_who_it_is_for(
    cluster: FakeCluster, declarations: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(address: str, port: int, timeout: float) -> None:
        raise ConnectionRefusedError(f"{address}:{port} {timeout}")

    monkeypatch.setattr(cluster, "dial", refused, raising=False)
    (found,) = prove(cast("Cluster", cluster), [one(cluster, declarations, ETCDCTL)], print)

    assert "https://10.240.0.12:2379: ConnectError" in found.failure


def answers(given: Sequence[str | None]) -> list[str | None]:
    return list(reversed(given))


def test_waiting_ends_with_the_condition() -> None:
    left = answers(["not yet", None])

    until(left.pop, within=60, pause=0, where="x", over=threading.Event())

    assert left == []


def test_waiting_ends_with_the_last_answer_when_the_time_is_over() -> None:
    def ask() -> str | None:
        raise Mistake.at("there", "nobody answers")

    with pytest.raises(Mistake, match="x: after 0 s: there: nobody answers"):
        until(ask, within=0, pause=0, where="x", over=threading.Event())


def test_an_interrupted_run_waits_no_longer() -> None:
    over = threading.Event()
    over.set()

    with pytest.raises(Mistake, match="not yet"):
        until(lambda: "not yet", within=3600, pause=3600, where="x", over=over)
