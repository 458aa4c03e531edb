"""What is told of certificates: in state/, on hosts, on the wire; and when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import PurePosixPath

import pytest

from hardway.certs.report import Report
from hardway.desired import Shown
from hardway.pki.pair import Pair, leaf, root
from hardway.pki.request import Request
from hardway.state import State
from tests.certs.conftest import KUBECONFIG, FakeCluster

Ask = Callable[..., Report]
SERVING = PurePosixPath("/etc/kubernetes/kube-apiserver/serving.pem")
PEER = "pki/etcd/etcd-peer@controller-2.pem"


def test_a_cluster_that_is_as_state_has_it_is_well(report: Ask, cluster: FakeCluster) -> None:
    found = report()

    assert (found.wrong, found.unknown, found.notes, found.code) == ((), (), (), 0)
    assert cluster.observed == 6  # one exec a host
    kinds = {
        kind: [one for one in found.seen if one.item.kind == kind] for kind in ("authority", "certificate", "bundle", "kubeconfig", "key")
    }
    assert len(kinds["authority"]) == 4 + 3  # and where the controller manager signs
    assert len(kinds["certificate"]) == 3 * 11 + 2 * 3 + 2
    assert len(kinds["kubeconfig"]) == 3 * 2 + 2 * 2 + 1
    assert {str(one.item.path) for one in kinds["key"] if one.item.name == "encryption" and one.item.path} == {
        "/etc/kubernetes/kube-apiserver/encryption.yaml"
    }
    assert {one.on_host for one in found.seen if one.item.path} == {"same"}
    served = [(one.item.name, one.item.host, one.wire.serving.port) for one in kinds["certificate"] if one.wire]
    assert len(served) == 3 * 5 + 2
    assert ("kube-scheduler-serving", "controller-3", 10259) in served


def test_what_ends_first_is_known(report: Ask, now: datetime) -> None:
    first = report().next

    assert first is not None
    assert (first.item.kind, first.item.not_after) == ("certificate", now + timedelta(days=365))


def test_a_host_that_does_not_answer_is_named_and_the_rest_is_shown(report: Ask, cluster: FakeCluster) -> None:
    cluster.dead = {"controller-2"}

    found = report()

    assert found.unknown == ("controller-2: not asked: cannot be reached",)
    assert (found.wrong, found.code) == ((), 3)
    assert {one.on_host for one in found.seen if one.item.host == "controller-2"} == {"not asked"}
    assert all(one.item.serial for one in found.seen if one.item.kind == "certificate")


def test_a_port_that_shows_nothing_is_not_taken_to_be_well(report: Ask, cluster: FakeCluster) -> None:
    cluster.closed = {6443}

    found = report()

    assert "certificate kube-apiserver on controller-1: port 6443: no certificate is shown: Connection refused" in found.unknown
    assert (len(found.unknown), found.code) == (3, 3)


def test_a_port_that_shows_another_certificate_is_wrong(report: Ask, cluster: FakeCluster, now: datetime) -> None:
    cluster.other["controller-3", 2380] = Shown(serial=0xABC, issuer="etcd-ca-2025a", not_after=now)
    cluster.dead = {"controller-1"}

    found = report()

    (wrong,) = found.wrong
    assert wrong.startswith(
        f"certificate etcd-peer on controller-3: port 2380 shows abc, of etcd-ca-2025a until {now:%Y-%m-%d}; state/ has "
    )
    assert found.code == 1


def test_a_file_that_differs_and_one_that_is_gone_are_wrong(report: Ask, cluster: FakeCluster) -> None:
    cluster.carried["controller-1"][SERVING] = "0" * 64
    del cluster.carried["lb-1"][PurePosixPath("/etc/kubernetes/kube-apiserver-lb/ca.crt")]

    assert report().wrong == (
        "certificate kube-apiserver on controller-1: the host has another one than state/; `./inv push` brings it",
        "bundle /etc/kubernetes/kube-apiserver-lb/ca.crt on lb-1: the host has not got it; `./inv push` brings it",
    )


def test_without_a_number_a_certificate_is_wrong_when_a_push_would_renew_it(report: Ask, now: datetime) -> None:
    assert report(at=now + timedelta(days=334)).code == 0
    late = report(at=now + timedelta(days=336))

    assert f"certificate admin: expires on {now + timedelta(days=365):%Y-%m-%d}, in 29 days" in late.wrong
    assert f"kubeconfig admin.kubeconfig: expires on {now + timedelta(days=365):%Y-%m-%d}, in 29 days" in late.wrong
    assert (
        f"certificate etcdctl on controller-1, controller-2, controller-3: expires on {now + timedelta(days=365):%Y-%m-%d}, in 29 days"
        in late.wrong
    )
    assert len(late.wrong) == 11 + 3 + 2 + 1  # not the bundles, nor the kubeconfigs that name one of these


@pytest.mark.parametrize(("days", "code"), [(364.0, 0), (366.0, 1), (0.0, 0)])
def test_the_number_of_days_to_warn_is_taken_by_the_letter(report: Ask, days: float, code: int) -> None:
    assert report(warn_days=days).code == code


def test_what_has_expired_is_said_to_have(report: Ask, now: datetime) -> None:
    found = report(at=now + timedelta(days=400), warn_days=0)

    assert f"certificate admin: expired on {now + timedelta(days=365):%Y-%m-%d %H:%M} UTC" in found.wrong


def test_an_authority_in_its_last_year_is_noted_and_in_its_last_days_wrong(report: Ask, now: datetime) -> None:
    end = now + timedelta(days=3650)

    year = report(at=now + timedelta(days=3400))
    days = report(at=now + timedelta(days=3640))

    note = f"authority kubernetes-{now.year}a ends on {end:%Y-%m-%d}: what it signs from now on ends with it, "
    assert [one for one in year.notes if one.startswith(note)]
    assert not [line for line in year.wrong if line.startswith("authority")]
    assert f"authority kubernetes-{now.year}a: expires on {end:%Y-%m-%d}, in 10 days" in days.wrong


def test_what_is_wrong_in_state_stops_nothing_and_is_told(report: Ask, state: State, now: datetime) -> None:
    state.path("pki/kubernetes/kube-scheduler@controller-1.pem").unlink()
    state.write("pki/etcd/etcdctl@controller-3.pem", b"garbage")
    state.write(f"pki/front-proxy/authority-{now.year}a.pem", b"garbage")
    state.write(f"pki/encryption/key-{now.year}a", b"short")
    key_less = Pair.parse(state.read(f"pki/cluster-signing/authority-{now.year}a.pem")).certificate_pem
    state.write(f"pki/cluster-signing/authority-{now.year}a.pem", key_less)

    wrong = report().wrong

    assert "certificate kube-scheduler on controller-1: missing" in wrong
    assert "certificate etcdctl on controller-3: no certificate can be read" in wrong
    assert "authority front-proxy: authority front-proxy: no certificate can be read" in wrong
    assert "key pki/encryption/key-2026a: is no key of 32 bytes in base64".replace("2026", str(now.year)) in wrong
    assert f"authority cluster-signing-{now.year}a: its key is missing" in wrong


def test_a_certificate_of_another_authority_is_wrong(report: Ask, state: State, now: datetime) -> None:
    other = root("etcd-other", keys="ec", days=900, now=now)
    request = Request(authority="etcd", certificate="etcd-peer", common_name="controller-2", usages=("server", "client"))
    state.write(PEER, leaf(request, other, now=now).pem)

    assert f"certificate etcd-peer on controller-2: signed by etcd-other, not by etcd-ca-{now.year}a" in report().wrong


def test_a_kubeconfig_that_was_left_behind_is_wrong(report: Ask, state: State, now: datetime) -> None:
    text = state.read(KUBECONFIG)
    request = Request(
        authority="kubernetes",
        certificate="admin",
        common_name="kubernetes-admin",
        organization="hardway:administrators",
        usages=("client",),
    )
    signer = Pair.parse(state.read(f"pki/kubernetes/authority-{now.year}a.pem"))
    state.write("pki/kubernetes/admin.pem", leaf(request, signer, now=now).pem)

    assert report().wrong == ("kubeconfig admin.kubeconfig: holds another certificate; `./inv push` writes it again",)
    state.write(KUBECONFIG, text[:200])
    assert report().wrong == ("kubeconfig admin.kubeconfig: no certificate can be read; `./inv push` writes it again",)


def test_the_document_has_everything_and_no_secret(report: Ask, cluster: FakeCluster, state: State, now: datetime) -> None:
    cluster.closed = {10257}

    text = json.dumps(report(warn_days=7).document)

    found = json.loads(text)
    assert (found["schema"], found["warn_days"], len(found["unknown"])) == (1, 7.0, 3)
    (one,) = (item for item in found["items"] if (item["name"], item["host"]) == ("kube-apiserver", "controller-1"))
    assert one["read_by"] == [{"reader": "kube-apiserver.service", "pickup": "watch"}]
    assert "IP:10.32.0.1" in one["sans"]
    assert (one["issuer"], one["days_left"], one["on_host"]) == (f"kubernetes-{now.year}a", 365, "same")
    assert (one["served"]["port"], one["served"]["same"]) == (6443, True)
    assert "PRIVATE" not in text
    assert state.read(f"pki/encryption/key-{now.year}a").decode() not in text
