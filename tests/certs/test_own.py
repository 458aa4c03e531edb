"""What a kubelet has asked for itself: its host says until when it is good, and nothing in state/ is missed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hardway.certs.look import items, look, unasked
from hardway.certs.prometheus import exposition
from hardway.certs.report import Report
from hardway.components.kubelet import OWN
from hardway.inventory import Host, Inventory
from hardway.inventory.values import Kubelet
from hardway.pki import issue, kept
from hardway.pki.declared import Declarations
from hardway.pki.pair import leaf
from hardway.pki.request import Request
from hardway.remote.cluster import Cluster
from hardway.state import State
from tests.certs.conftest import KUBECONFIG, FakeCluster

Found = Callable[[timedelta], Report]


@pytest.fixture
def found(declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> Found:
    """Of two workers the first has its certificate, for a day."""
    asking = replace(inventory, kubelet=Kubelet(tls="bootstrap"))
    cluster = FakeCluster(asking, issue.credentials(declarations, asking, state))
    host = asking.on("worker")[0]
    cluster.own[host.name] = {OWN.path: certificate(state, host, now)}

    def ask(after: timedelta) -> Report:
        seen, silent = look(cast("Cluster", cluster), items(declarations, asking, state, KUBECONFIG, now), asking.hosts)
        return Report(cluster="kit", asked=now + after, warn=None, seen=seen, silent=silent)

    return ask


def certificate(state: State, host: Host, now: datetime) -> bytes:
    signer = next(iter(kept.generations(state, OWN.authority).values()))
    request = Request(
        authority=OWN.authority, certificate="kubelet", common_name=OWN.name(host), organization=OWN.organization, usages=("client",)
    )
    return leaf(request, signer, now=now, lifetime=timedelta(days=1)).certificate.public_bytes(Encoding.DER)


def test_it_is_shown_as_its_own_and_one_that_is_not_there_is_wrong(found: Found) -> None:
    report = found(timedelta())
    rows = [row for row in report.document["items"] if row["path"] == str(OWN.path)]

    assert [(row["host"], row["name"], row["on_host"], row["note"], row["days_left"]) for row in rows] == [
        ("worker-1", "kubelet", "there", "its own", 1),
        ("worker-2", "kubelet", "missing", "its own", None),
    ]
    assert rows[0]["subject"] == "CN=system:node:worker-1, O=system:nodes"
    assert report.wrong == ("certificate kubelet on worker-2: the host has not got it; `./inv push` brings it",)
    assert report.next is not None
    assert (report.next.item.name, report.next.item.host) == ("kubelet", "worker-1")
    assert "PRIVATE" not in json.dumps(report.document)


def test_one_that_has_ended_is_wrong(found: Found, now: datetime) -> None:
    ended = f"certificate kubelet on worker-1: expired on {now + timedelta(days=1):%Y-%m-%d %H:%M} UTC"

    assert ended in found(timedelta(days=2)).wrong


def test_there_is_nothing_to_compare_it_with(found: Found) -> None:
    lines = [line for line in exposition(found(timedelta())).splitlines() if str(OWN.path) in line and 'kind="certificate"' in line]

    assert [(line.partition("{")[0], line.partition('host="')[2][:8]) for line in lines] == [
        ("hardway_certificate_not_after_timestamp_seconds", "worker-1"),
        ("hardway_certificate_on_host", "worker-2"),
    ]


def test_where_no_host_is_asked_nobody_knows_its_end(declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> None:
    wanted = items(declarations, replace(inventory, kubelet=Kubelet(tls="bootstrap")), state, KUBECONFIG, now)
    own = [one for one in unasked(wanted) if one.item.path == OWN.path]

    assert [(one.item.host, one.on_host, one.item.not_after) for one in own] == [
        ("worker-1", "not asked", None),
        ("worker-2", "not asked", None),
    ]
