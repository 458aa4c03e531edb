"""Certificates of a running cluster: shown, renewed beside its clients, renewed when all of them have expired."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hardway import people, push
from hardway.certs.renewal import _no_programs, narrowed
from hardway.components import etcd, installed, kube_apiserver
from hardway.desired import Blob, Secret
from hardway.errors import Mistake
from hardway.pki import declared, issue, succession
from hardway.pki.pair import root
from hardway.plan import Plan
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each
from hardway.rotate import audited
from hardway.verbs.program.console import Console
from hardway.verbs.program.running import running
from hardway.verbs.program.session import Session
from tests.lab.conftest import LabCluster
from tests.lab.sabotage import passes, until

pytestmark = pytest.mark.lab

API = "/etc/kubernetes/kube-apiserver/serving.pem"


@pytest.fixture(scope="module", autouse=True)
def as_it_was(cluster: LabCluster) -> Iterator[None]:
    """Afterwards nothing is left that a push would change."""
    yield
    assert cluster.inv("push").returncode == 0
    assert cluster.inv("plan").returncode == 0
    cluster.read_again()


def report(cluster: LabCluster, *words: str, code: int = 0) -> dict[str, Any]:
    done = cluster.inv("certs", "--json", "-", *words)
    assert done.returncode == code
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def serials(found: dict[str, Any]) -> dict[tuple[str, str | None], str]:
    return {(one["name"], one["host"]): one["serial"] for one in found["items"] if one["kind"] == "certificate"}


def started(cluster: LabCluster) -> set[tuple[str, str, str]]:
    """Each host's units and their invocations: another one after each start."""
    found = set()
    for host in cluster.inventory.hosts:
        units = [component.unit for component in installed(cluster.inventory, host)]
        invocations = cluster.live.run(host, "systemctl", "show", "--value", "-p", "InvocationID", *units).split()
        found |= {(host.name, unit, invocation) for unit, invocation in zip(units, invocations, strict=True)}
    return found


def test_all_that_is_served_is_what_lies_on_the_hosts_and_in_state(cluster: LabCluster, tmp_path: Path) -> None:
    found = report(cluster, "--prometheus", str(tmp_path / "x.prom"))

    assert (found["wrong"], found["unknown"], found["notes"]) == ([], [], [])
    ports = sorted(one["served"]["port"] for one in found["items"] if one["served"])
    assert ports == sorted([*(3 * [2379, 2380, 6443, 10257, 10259]), *(2 * [10250])])
    assert all(one["served"]["same"] for one in found["items"] if one["served"])
    assert {one["on_host"] for one in found["items"] if one["path"]} == {"same"}
    assert 'hardway_certificates_wrong{cluster="' in (tmp_path / "x.prom").read_text()


def test_one_certificate_is_renewed_and_nothing_goes_with_it(cluster: LabCluster) -> None:
    before, units = serials(report(cluster)), started(cluster)
    text = cluster.path.read_text()
    cluster.path.write_text(text + "\nflags:\n  kube-scheduler: {v: 1}\n")
    try:
        done = cluster.inv("certs.renew", "--name", "kube-apiserver", "--hosts", "controller-2")
    finally:
        cluster.path.write_text(text)

    assert done.returncode == 0
    assert "served on 6443 " in done.stdout
    assert "1 issued, 1 brought to hosts" in done.stdout
    assert "6 other changes were left alone" in done.stderr
    after = serials(report(cluster))
    assert {where for where, serial in after.items() if before[where] != serial} == {("kube-apiserver", "controller-2")}
    assert units == started(cluster)


def test_all_certificates_are_renewed_and_only_api_servers_restart(cluster: LabCluster) -> None:
    """They hold the one that they show to kubelets from start to end: to change it would cut every `exec` and `logs` on its way."""
    before, units = serials(report(cluster)), started(cluster)

    done = cluster.inv("certs.renew", "--all", "--no-wait")

    assert done.returncode == 0
    assert "41 issued, 39 brought to hosts" in done.stdout
    until_well(cluster)
    assert done.stdout.count("accepted by etcd") == 2
    users = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "node:worker-1", "node:worker-2")
    assert [user for user in users if f"accepted as system:{user}" not in done.stdout] == []
    assert "NOT PROVED" not in done.stdout
    after = serials(report(cluster))
    assert not {where for where, serial in after.items() if before[where] == serial}
    assert {(host, unit) for host, unit, _ in units ^ started(cluster)} == {
        (host.name, "kube-apiserver.service") for host in cluster.inventory.on("controller")
    }
    assert cluster.inv("kubectl", "--", "auth", "whoami").returncode == 0
    assert cluster.inv("certs.renew").stdout == "nothing to renew\n"


def test_a_host_that_is_down_does_not_keep_the_others_from_their_certificates(cluster: LabCluster) -> None:
    cluster.read_again()
    host = cluster.controller(3)
    cluster.live.run(host, "sh", "-c", "systemctl stop ssh.socket ssh.service 2>/dev/null; true")
    try:
        done = cluster.inv("certs.renew", "--name", "kube-scheduler-serving")
    finally:
        cluster.live.run(host, "systemctl", "start", "ssh.service")
    again = cluster.inv("certs.renew")

    assert done.returncode == 1
    assert "3 issued, 2 brought to hosts" in done.stdout
    assert "controller-3: has none of it: cannot be reached" in done.stderr
    assert again.returncode == 0
    assert "0 issued, 1 brought to hosts" in again.stdout
    assert "served on 10259 " in again.stdout


@pytest.mark.full
def test_what_looks_only_every_five_minutes_is_seen_to_use_its_new_certificate(cluster: LabCluster) -> None:
    done = cluster.inv("certs.renew", "--name", "kube-scheduler")

    assert done.returncode == 0
    assert "accepted as system:kube-scheduler, used by kube-scheduler after " in done.stdout
    assert "3 issued, 3 brought to hosts" in done.stdout


def test_a_daemon_that_does_not_run_is_told_and_is_not_taken_to_be_well(cluster: LabCluster) -> None:
    cluster.read_again()
    hosts = cluster.inventory.on("controller")
    each(hosts, lambda host: cluster.live.run(host, "systemctl", "stop", "kube-apiserver.service"), 3)
    try:
        found = report(cluster, code=3)
    finally:
        each(hosts, lambda host: cluster.live.run(host, "systemctl", "start", "kube-apiserver.service"), 3)
        until_well(cluster)

    assert found["wrong"] == []
    assert [line.partition(": no certificate")[0] for line in found["unknown"]] == [
        f"certificate kube-apiserver on {host.name}: port 6443" for host in hosts
    ]


def test_access_for_a_person_is_what_rbac_gives_and_ends_soon(cluster: LabCluster, tmp_path: Path) -> None:
    out = tmp_path / "jane.kubeconfig"
    nothing = cluster.inv("kubeconfig", "--user", "jane", "--for", "10m", "--out", str(out))
    everything = cluster.inv("kubeconfig", "--user", "root", "--group", "hardway:administrators", "--embed", "--out", "-")

    assert (nothing.returncode, everything.returncode) == (0, 0)
    assert "may nothing yet" in nothing.stderr
    assert "create clusterrolebinding jane-view --clusterrole=view --user=jane" in nothing.stderr
    assert "may in default and kube-system: everything" in everything.stderr
    for path in (out, tmp_path / "root.kubeconfig"):
        path.exists() or path.write_text(everything.stdout)
        who = cluster.inv("kubectl", "--", "--kubeconfig", str(path), "auth", "whoami", "-o", "json")
        assert json.loads(who.stdout)["status"]["userInfo"]["username"] == path.stem
    cluster.read_again()
    token_of = cluster.live.token(cluster.controller(1))
    now = datetime.now(UTC)
    log = audited.read(cluster.live, now - timedelta(minutes=5))  # as a rotation looks for who has not followed
    shown = {one.user: log.shown[f"X509SHA256={one.fingerprint}"] for one in people.given(cluster.state, now)[-2:]}
    assert {user: one.user for user, one in shown.items()} == {"jane": "jane", "root": "root"}
    assert all("(kubectl" in one.client for one in shown.values())
    assert log.issued[f"JTI={body(token_of)['jti']}"][0] == "controller-1"
    cluster.state.remove(people.FILE)  # nobody will wait for them


def body(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def until_well(cluster: LabCluster) -> None:
    """After the API was away: a server that has just started is not ready, and a leader that could not renew its lease has given up."""
    until(lambda: cluster.inv("status").returncode == 0)


def expire(cluster: LabCluster) -> None:
    """Certificates that ended long ago in state/ and on the hosts."""
    declarations = declared.load(Path(__file__).parents[2] / "certs")
    issue.ensure(declarations, cluster.inventory, cluster.state, datetime.now(UTC) - timedelta(days=400))
    session = Session(inventory=cluster.inventory, console=Console())
    with running(session, cluster.state, print, issuing=False) as live:
        found = narrowed(push.survey(live, _no_programs), lambda file: isinstance(file.content, Secret))
        carried(live, [plan for plan in found.plans if "controller" in plan.host.roles])


def outlive(cluster: LabCluster) -> None:
    """Authorities that have ended an hour ago, in state/ and on the hosts, and nothing that they have signed is any good."""
    begun = datetime.now(UTC) - timedelta(days=3650, hours=1)
    declarations = declared.load(Path(__file__).parents[2] / "certs")
    for one in declarations.wanted(cluster.inventory):
        pair = root(f"{one.common_name}-2026z", keys="ec", days=3650, now=begun)
        cluster.state.write(f"pki/{one.authority}/authority-2026z.pem", pair.pem)
        succession.switch(one, cluster.inventory, cluster.state, begun)
        succession.finish(cluster.state, one.authority)
        succession.forget(cluster.state, one.authority)
    session = Session(inventory=cluster.inventory, console=Console())
    with running(session, cluster.state, print, issuing=False) as live:
        found = narrowed(push.survey(live, _no_programs), lambda file: not isinstance(file.content, Blob))
        carried(live, found.plans)


def carried(live: Cluster, plans: Iterable[Plan]) -> None:
    """Their files on the hosts, and daemons that have connected with them anew: connections that are open would go on as they are."""
    for plan in plans:
        live.machine(plan.host).apply(replace(push.request(plan), actions=(), owed=frozenset()))
    units = (etcd.COMPONENT.unit, kube_apiserver.COMPONENT.unit)
    each(live.inventory.on("controller"), lambda host: live.run(host, "systemctl", "restart", "--no-block", *units), 3)


def dead(live: Cluster) -> bool:
    """Whether no API server is ready to us."""
    try:
        return all(kube_apiserver.ready(live, host) for host in live.inventory.on("controller"))
    except Mistake:
        return True


def test_a_cluster_whose_certificates_have_all_expired_comes_back_by_one_command(cluster: LabCluster) -> None:
    cluster.read_again()
    live = cluster.live  # made now: whoever reads a state/ in which all has expired issues it again
    expire(cluster)
    until(partial(dead, live))
    wrong = report(cluster, code=1)["wrong"]
    assert len([line for line in wrong if "expired on" in line]) >= 11 + 2

    done = cluster.inv("certs.renew", "--no-wait")

    assert done.returncode == 0
    assert "41 issued, 39 brought to hosts" in done.stdout
    until_well(cluster)
    assert report(cluster)["wrong"] == []
    assert cluster.inv("smoke", "--check", "certs.served").returncode == 0


@pytest.mark.full
def test_a_cluster_whose_authorities_have_all_expired_comes_back_by_one_command(cluster: LabCluster) -> None:
    cluster.read_again()
    live = cluster.live
    outlive(cluster)
    until(partial(dead, live))
    refused = cluster.inv("push")
    assert refused.returncode == 1
    assert "authority kubernetes has expired on" in refused.stderr
    assert "`./inv rotate.authority kubernetes` replaces all that have, at once" in refused.stderr

    done = cluster.inv("rotate.authority", "kubernetes")

    assert done.returncode == 0
    for name in ("kubernetes", "etcd", "front-proxy", "cluster-signing"):
        assert f"{name}: " in done.stderr
    cluster.read_again()
    until_well(cluster)
    assert cluster.inv("plan").returncode == 0
    assert report(cluster)["wrong"] == []
    passes(cluster)
