"""Authorities and keys are replaced under load, and no client sees it; killed in the middle, the same command goes on."""

from __future__ import annotations

import base64
import itertools
import json
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hardway import chronicle, people
from hardway.components import etcd, kube_apiserver
from hardway.pki import kept, succession
from hardway.rotate.tokens import key
from hardway.waiting import answer
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import passes, shell, until
from tests.lab.seen import loaded, not_seen

pytestmark = pytest.mark.lab

AUTHORITIES = ("kubernetes", "etcd", "front-proxy", "cluster-signing")
STARTED = 'systemctl show --value -p ExecMainStartTimestampMonotonic "${1:-etcd.service}"'


@pytest.fixture(autouse=True)
def settled(cluster: LabCluster) -> Iterator[None]:
    """Afterwards: nothing that a push would change; if it would, it does, since other tests have the same cluster."""
    yield
    cluster.read_again()
    pending = cluster.inv("plan")
    if pending.returncode:
        cluster.inv("push")
    assert pending.returncode == 0


def under_load(cluster: LabCluster, *words: str) -> dict[str, Any]:
    """What its clients saw of a verb: nothing, and all were busy."""
    done = cluster.inv(*words, "--with-traffic", "--json", "-")
    seen: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (seen["client_visible_failures"] > 0)
    not_seen(seen)
    record = chronicle.read(cluster.state, chronicle.names(cluster.state)[0])
    assert record.load
    assert (record.outcome, record.load.requests) == ("done", seen["requests"])
    assert {one.part for one in record.phases} == {"take", "push", "prove"}
    cluster.read_again()
    return seen


def names(cluster: LabCluster, authority: str) -> tuple[str, str]:
    """Who is trusted, and who signs."""
    trust = succession.trust(cluster.state, authority)
    return trust.bundle, trust.signer.name


def generations(cluster: LabCluster) -> set[str]:
    """What signs, and what encrypts."""
    signers = {succession.trust(cluster.state, authority).signer.common_name for authority in AUTHORITIES}
    return signers | {kept.keys(cluster.state, key)[-1] for key in ("service-account", "encryption")}


def taken(cluster: LabCluster) -> set[succession.Step | None]:
    """Which steps the authorities have taken last."""
    return {succession.done(cluster.state, authority) for authority in AUTHORITIES}


def killed_at(cluster: LabCluster, line: str, *words: str) -> str:
    """All that a verb has said when it was killed, as it said that."""
    told = []
    with cluster.start(*words) as process:
        for one in process.stderr or ():
            told.append(one)
            if re.search(line, one):
                process.kill()
                break
    said = "".join(told)
    assert process.returncode == -signal.SIGKILL, said
    return said


def test_fault_28_the_kit_is_killed_in_the_middle_of_a_rotation(cluster: LabCluster) -> None:
    """Of every authority and every key: in each step, as some hosts have it, and between two. Nobody sees anything of it."""
    before, bundles = generations(cluster), {authority: names(cluster, authority)[0] for authority in AUTHORITIES}
    assert told_to_extensions(cluster, bundles["front-proxy"])
    prepared = ("rotate.all", "--pace", "fast", "--until", "switch")
    finished = ("rotate.all", "--pace", "fast", "--refresh-tokens", "--cut-off")  # other tests have used tokens
    with loaded(cluster) as load:
        killed_at(cluster, r"etcd: healthy", *prepared)
        assert taken(cluster) == {succession.Step.PREPARE}
        assert chronicle.read(cluster.state, chronicle.names(cluster.state)[0]).outcome == "interrupted"
        killed_at(cluster, r"all: prepare: \d+ changes", *prepared)
        killed_at(cluster, r"controller-\d: kube-apiserver: .* after ", *prepared)
        assert taken(cluster) == {succession.Step.SWITCH}
        assert cluster.inv(*prepared).returncode == 0
        not_seen(load.finish().document)
    cluster.read_again()
    # What has begun with the older key goes on with its token for an hour: the load is another one.
    with loaded(cluster) as load:
        said = killed_at(cluster, r"etcd: healthy", *finished)
        assert "it was asked for" not in said  # whoever has begun with a certificate of the new one is left alone
        assert taken(cluster) == {succession.Step.FINISH}
        assert cluster.inv(*finished).returncode == 0
        not_seen(load.finish().document)
    cluster.read_again()

    assert not before & generations(cluster)
    assert [authority for authority, bundle in bundles.items() if told_to_extensions(cluster, bundle)] == []
    assert taken(cluster) == {None}
    assert {succession.key_done(cluster.state, key) for key in ("service-account", "encryption")} == {None}


@pytest.mark.full
@pytest.mark.parametrize("authority", ["front-proxy", "cluster-signing"])
def test_an_authority_that_nobody_has_to_restart_for_is_replaced(cluster: LabCluster, authority: str) -> None:
    before = names(cluster, authority)

    under_load(cluster, "rotate.authority", authority)

    bundle, signer = names(cluster, authority)
    assert signer != before[1]
    assert bundle.count("BEGIN CERTIFICATE") == 1
    assert succession.done(cluster.state, authority) is None
    assert not told_to_extensions(cluster, before[0])


def told_to_extensions(cluster: LabCluster, bundle: str) -> bool:
    """Whether extension API servers are told to believe the first certificate of a bundle."""
    found = cluster.live.api("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").json()
    return bundle.split("\n")[1] in json.dumps(found)


def killed(cluster: LabCluster, *words: str, after: int) -> bool:
    """Whether a verb was killed when it had said so many lines; else it has come to its end before."""
    with cluster.start(*words) as process:
        for number, _ in enumerate(process.stderr or (), 1):
            if number == after:
                process.kill()
                return True
    assert process.returncode == 0
    return False


@pytest.mark.full
@pytest.mark.parametrize(
    ("step", "parts"),
    [
        pytest.param(1, [("rotate.authority", "front-proxy")], id="front-proxy"),
        pytest.param(1, [("rotate.authority", "cluster-signing")], id="cluster-signing"),
        pytest.param(4, [("rotate.authority", "etcd")], id="etcd"),
        pytest.param(8, [("rotate.authority", "kubernetes")], id="kubernetes"),
        pytest.param(1, [("rotate.encryption-key",)], id="encryption"),
        pytest.param(
            2,
            [
                ("rotate.service-account-key", "--until", "switch"),
                ("rotate.service-account-key", "--refresh-tokens", "--cut-off"),
            ],
            id="service-account",
        ),
    ],
)
def test_a_rotation_that_is_killed_again_and_again_comes_to_its_end_and_nobody_sees_it(
    cluster: LabCluster, step: int, parts: list[tuple[str, ...]]
) -> None:
    """After its first line, the next run after so many more, until one is quicker than its end."""
    before = generations(cluster)
    for words in parts:
        with loaded(cluster) as load:
            points = itertools.takewhile(lambda after: killed(cluster, *words, after=after), itertools.count(1, step))  # noqa: B023 - at once
            kills = len(list(points))
            seen = load.finish().document
        cluster.read_again()

        assert kills > 3
        not_seen(seen)
    assert len(before - generations(cluster)) == 1
    assert taken(cluster) == {None}


@pytest.mark.full
def test_fault_03_a_host_dies_in_the_middle_of_a_rotation(cluster: LabCluster) -> None:
    """A controller, after the first has changed: the third stays as it is, and once it is back the same command goes on."""
    before = names(cluster, "etcd")[1]
    started: dict[str, str] = {}
    with cluster.start("rotate.authority", "etcd") as process:
        for line in process.stderr or ():
            if not started and "etcd: healthy" in line:
                changed = line.strip().partition(":")[0]
                dying, third = (host for host in cluster.inventory.on("controller") if host.name != changed)
                started = {third.name: shell(cluster.live, third, STARTED)}
                cluster.cut_power(dying)
    assert process.returncode == 1
    assert {third.name: shell(cluster.live, third, STARTED)} == started
    cluster.boot()
    until(lambda: answer(partial(etcd.member_healthy, cluster.live, dying)) is None)
    # An API server keeps a dead connection to a member until a request is lost on it, whoever asks for what.
    others = [host for host in cluster.inventory.on("controller") if host != dying]
    for host in others:
        shell(cluster.live, host, 'systemctl restart "$1"', kube_apiserver.COMPONENT.unit)
    until(lambda: all(answer(partial(kube_apiserver.ready, cluster.live, host)) is None for host in (*others, dying)))

    under_load(cluster, "rotate.authority", "etcd")

    assert names(cluster, "etcd")[1] != before
    assert names(cluster, "etcd")[0].count("BEGIN CERTIFICATE") == 1


@pytest.mark.full
def test_fault_26_an_api_server_is_killed_in_the_middle_of_a_rotation(cluster: LabCluster) -> None:
    """And does not come back: the rotation stops before the next host; started again it goes on."""
    killed, unit = "", kube_apiserver.COMPONENT.unit
    began = {host: shell(cluster.live, host, STARTED, unit) for host in cluster.inventory.on("controller")}
    with cluster.start("rotate.authority", "etcd") as process:
        for line in process.stderr or ():
            if not killed and "kube-apiserver: " in line and " after " in line:
                killed = line.strip().partition(":")[0]
                victim = next(host for host in began if host.name == killed)
                shell(cluster.live, victim, 'systemctl kill --signal=KILL "$1"; systemctl stop "$1"', unit)
    assert process.returncode == 1
    others = [host for host in began if host != victim]
    assert sum(shell(cluster.live, host, STARTED, unit) != began[host] for host in others) <= 1  # the one that was under way

    shell(cluster.live, victim, 'systemctl start "$1"', unit)
    until(lambda: answer(partial(kube_apiserver.ready, cluster.live, victim)) is None)
    assert cluster.inv("rotate.authority", "etcd").returncode == 0


def test_a_rotation_goes_back_as_long_as_the_older_generation_is_trusted(cluster: LabCluster) -> None:
    before = names(cluster, "cluster-signing")
    assert cluster.inv("rotate.authority", "cluster-signing", "--until", "switch").returncode == 0
    assert names(cluster, "cluster-signing")[1] != before[1]
    assert cluster.inv("push").stdout == "nothing to change\n"  # an ordinary push keeps both
    assert names(cluster, "cluster-signing")[0].count("BEGIN CERTIFICATE") == 2

    assert cluster.inv("rotate.authority", "cluster-signing", "--back").returncode == 0

    assert names(cluster, "cluster-signing") == before
    again = cluster.inv("rotate.authority", "cluster-signing", "--back")
    assert "no rotation is under way" in again.stderr


SECRETS = "/api/v1/namespaces/kube-system/secrets"
FOR_EVER = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "for-ever", "annotations": {"kubernetes.io/service-account.name": "default"}},
    "type": "kubernetes.io/service-account-token",
}


def key_for_ever(cluster: LabCluster) -> str:
    """The key that has signed the token in that Secret."""
    token = cluster.live.api(f"{SECRETS}/for-ever").json().get("data", {}).get("token", "")
    return key(base64.b64decode(token).decode().partition(".")[0]) if token else ""


def used(cluster: LabCluster, token: str) -> int:
    """What an API server answers to it."""
    return cluster.live.visit(kube_apiserver.url(cluster.controller(2)), "/api", token=token).status


@pytest.mark.full
def test_the_key_of_service_accounts_is_replaced_and_tokens_follow(cluster: LabCluster) -> None:
    host = cluster.controller(1)
    older = cluster.live.token(host)
    before = key(older.partition(".")[0])
    assert cluster.live.request("POST", SECRETS, FOR_EVER).status == 201
    until(lambda: key_for_ever(cluster) == before)

    under_load(cluster, "rotate.service-account-key", "--until", "switch")
    assert used(cluster, older) == 200
    # The load's own Pods have begun with the older key, and nobody would make them again; those of the next have the new one.
    refused = cluster.inv("rotate.service-account-key", "--refresh-tokens")
    assert refused.returncode == 1
    assert "ServiceAccount kube-system/default: has used a token that the older key has signed" in refused.stderr
    assert key_for_ever(cluster) not in {"", before}
    under_load(cluster, "rotate.service-account-key", "--cut-off")

    cluster.live.request("DELETE", f"{SECRETS}/for-ever")
    assert used(cluster, older) == 401
    for one in cluster.inventory.on("controller"):
        assert key(cluster.live.token(one).partition(".")[0]) != before
    assert before not in cluster.live.api("/openid/v1/jwks").body.decode()


@pytest.mark.full
def test_the_key_of_encryption_is_replaced_and_every_secret_written_again(cluster: LabCluster) -> None:
    cluster.inv("kubectl", "--", "create", "secret", "generic", "rotated", "--from-literal=a=b")
    try:
        before = cluster.live.credentials.encryption_keys[0].name

        under_load(cluster, "rotate.encryption-key")

        (now,) = cluster.live.credentials.encryption_keys
        raw = list(etcd.values(cluster.live, cluster.controller(1), "/registry/secrets/"))
        assert now.name != before
        assert raw
        assert all(one.startswith(f"k8s:enc:secretbox:v1:{now.name}:".encode()) for one in raw)
        found = cluster.inv("kubectl", "--", "get", "secret", "rotated", "-o", "jsonpath={.data.a}")
        assert found.stdout == "Yg=="
    finally:
        cluster.inv("kubectl", "--", "delete", "secret", "rotated")


def test_what_still_needs_the_older_generation_keeps_it_trusted(cluster: LabCluster) -> None:
    assert cluster.inv("rotate.authority", "cluster-signing", "--until", "switch").returncode == 0
    old = succession.trust(cluster.state, "cluster-signing").trusted[0]
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "needs-the-older"},
        "webhooks": [
            {
                "name": "a.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "clientConfig": {"url": "https://127.0.0.1:1/", "caBundle": base64.b64encode(old.certificate.encode()).decode()},
                "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothing"]}],
            }
        ],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    cluster.read_again()
    assert cluster.live.request("POST", path, hook).status == 201
    try:
        refused = cluster.inv("rotate.authority", "cluster-signing")
        assert refused.returncode == 1
        assert "webhook needs-the-older (a.example.com): believes the older generation only" in refused.stderr
        assert succession.done(cluster.state, "cluster-signing") is succession.Step.SWITCH
    finally:
        cluster.live.request("DELETE", f"{path}/needs-the-older")
    assert cluster.inv("rotate.authority", "cluster-signing").returncode == 0


@pytest.mark.full
@pytest.mark.parametrize("pace", [(), ("--pace", "fast")], ids=["", "fast"])
def test_the_authority_of_the_cluster_is_replaced_under_load(cluster: LabCluster, pace: tuple[str, ...]) -> None:
    before = names(cluster, "kubernetes")[1]

    under_load(cluster, "rotate.authority", "kubernetes", *pace)

    assert names(cluster, "kubernetes")[1] != before
    passes(cluster)


@pytest.mark.full
def test_a_person_is_not_cut_off_before_there_is_a_new_kubeconfig(cluster: LabCluster, tmp_path: Path) -> None:
    """Before the switch, since API servers are not believed by the older one any more from then on; the new one is good to the end."""

    def jane(name: str) -> str:
        path = tmp_path / name
        path.exists() or cluster.inv("kubeconfig", "--user", "jane", "--for", "1h", "--embed", "--out", str(path))
        return cluster.inv("kubectl", "--", "--kubeconfig", str(path), "auth", "whoami").stderr

    assert jane("older") == ""
    refused = cluster.inv("rotate.authority", "kubernetes", "--pace", "fast")
    assert refused.returncode == 1
    assert "jane: has used a kubeconfig that does not know kubernetes-" in refused.stderr
    assert succession.done(cluster.state, "kubernetes") is succession.Step.PREPARE

    assert jane("newer") == ""
    assert cluster.inv("rotate.authority", "kubernetes", "--pace", "fast").returncode == 0
    assert "x509" in jane("older")
    assert jane("newer") == ""
    cluster.state.remove(people.FILE)  # nobody waits for her any more
