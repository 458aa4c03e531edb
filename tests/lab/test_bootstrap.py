"""Kubelets that ask for their client certificates: each with a token that is good for its own name, once.

A lab of its own with one controller and two workers: about ten minutes on two cores, twelve where they are busy with other things.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hardway.components.kubelet import OWN
from hardway.inventory import Host
from hardway.observed import Asked
from hardway.pki import kept, succession
from hardway.pki.own import read
from hardway.pki.pair import leaf
from hardway.pki.request import Request
from hardway.push.admission import REQUESTS, SECRETS
from tests.lab.conftest import LabCluster, booted, shipped
from tests.lab.sabotage import shell, until, with_flags, without_flags

pytestmark = [pytest.mark.lab, pytest.mark.full]

OTHERS = re.compile(r"^  (lb-1|controller-[23]):.*\n", re.MULTILINE)
BOOTSTRAP = "kubelet: {tls: bootstrap}\n"


def small() -> str:
    text = OTHERS.sub("", shipped("boot", 245)).replace("loadbalancer: haproxy", "loadbalancer: none")
    return re.sub(r"(  address: 10\.245\.\d+)\.10\n", r"\1.11\n", text) + BOOTSTRAP


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCluster]:
    with booted(tmp_path_factory.mktemp("boot") / "boot.yaml", small()) as cluster:
        assert cluster.inv("up").returncode == 0
        yield cluster


def workers(cluster: LabCluster) -> tuple[Host, ...]:
    return cluster.inventory.on("worker")


def ready(cluster: LabCluster) -> dict[str, str]:
    nodes = cluster.live.api("/api/v1/nodes").json()["items"]
    return {node["metadata"]["name"]: next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready") for node in nodes}


def planned(cluster: LabCluster, host: Host) -> list[dict[str, str]]:
    changes = json.loads(cluster.inv("plan", "--json", "-").stdout)["hosts"][host.name]
    return [change for change in changes if change["action"] == "bootstrap"]


def assert_no_token_is_left(cluster: LabCluster) -> None:
    assert [one["metadata"]["name"] for one in cluster.live.api(SECRETS).json()["items"] if "bootstrap" in one["type"]] == []
    for host in workers(cluster):
        shell(cluster.live, host, '! test -e "$1"', str(OWN.token))


def requests(cluster: LabCluster, user: str) -> list[dict[str, Any]]:
    return [one for one in cluster.live.api(REQUESTS).json()["items"] if one["spec"]["username"].startswith(user)]


def serial(cluster: LabCluster, host: Host) -> int:
    """Of the certificate that the kubelet has, 0 if it has none."""
    seen = cluster.live.machine(host).observe(frozenset(), (), Asked(certificates=(OWN.path,)))
    found = read(seen.certificates.get(OWN.path))
    return found.certificate.serial_number if found else 0


def asks_and_gets(cluster: LabCluster, host: Host, why: str) -> None:
    """The plan says that it asks and why; the push makes it so, and leaves nothing."""
    assert planned(cluster, host) == [
        {"component": "kubelet", "action": "bootstrap", "user": f"system:node:{host.name}", "why": why},
    ]
    assert cluster.inv("push").returncode == 0
    assert cluster.inv("plan").returncode == 0
    assert_no_token_is_left(cluster)
    until(lambda: set(ready(cluster).values()) == {"True"})


def test_workers_join_by_tokens_that_are_gone_afterwards(asking: LabCluster) -> None:
    assert ready(asking) == {host.name: "True" for host in workers(asking)}
    assert_no_token_is_left(asking)
    assert asking.inv("plan").returncode == 0

    users = [one["spec"]["username"] for one in requests(asking, "system:bootstrap:")]
    assert len(users) == len(set(users)) == len(workers(asking))
    found = json.loads(asking.inv("certs", "--json", "-").stdout)["items"]
    own = {one["host"]: (one["note"], one["on_host"], one["issuer"][:15]) for one in found if one["path"] == str(OWN.path)}
    assert own == {host.name: ("its own", "there", "cluster-signing") for host in workers(asking)}


def test_a_kubelet_that_asks_for_the_name_of_another_node_is_refused(asking: LabCluster) -> None:
    thief, other = workers(asking)
    before = serial(asking, other)
    with_flags(asking.live, thief, "kubelet.service", f"--hostname-override={other.name}")
    shell(asking.live, thief, 'rm "$1"', str(OWN.path))

    done = asking.inv("push")

    assert done.returncode == 1
    assert re.search(rf"{thief.name}: what was asked with its token, \S+, is denied: it is for .*CN=system:node:{other.name}", done.stderr)
    # It may have asked once more before its token was gone: nobody approves that.
    refused = [one["status"] for one in requests(asking, "system:bootstrap:") if "certificate" not in one["status"]]
    assert {condition["type"] for status in refused for condition in status.get("conditions", ())} == {"Denied"}
    assert_no_token_is_left(asking)
    assert (serial(asking, thief), serial(asking, other)) == (0, before)

    shell(asking.live, thief, "rm -r /run/systemd/system/kubelet.service.d; systemctl daemon-reload")
    asks_and_gets(asking, thief, "it has no client certificate")


def test_a_certificate_that_has_ended_is_asked_for_again(asking: LabCluster) -> None:
    host = workers(asking)[0]
    now = datetime.now(UTC)
    generations = kept.generations(asking.state, OWN.authority)
    request = Request(
        authority=OWN.authority,
        certificate="ended",
        common_name=OWN.name(host),
        organization=OWN.organization,
        usages=("client",),
    )
    ended = leaf(request, next(iter(generations.values())), now=now - timedelta(hours=1), lifetime=timedelta(minutes=1))
    shell(asking.live, host, 'echo "$1" | base64 -d >"$(readlink "$2")"', b64encode(ended.pem).decode(), str(OWN.path))

    asks_and_gets(asking, host, "its client certificate has ended")


def test_a_kubelet_has_its_certificate_made_anew_by_itself(asking: LabCluster) -> None:
    host, controller = workers(asking)[0], asking.controller()
    with_flags(asking.live, controller, "kube-controller-manager.service", "--cluster-signing-duration=2m")
    try:
        shell(asking.live, host, 'rm "$1"', str(OWN.path))
        assert asking.inv("push").returncode == 0
        first, started = serial(asking, host), invocation(asking, host)

        for _ in range(3):  # minutes
            try:
                until(lambda: serial(asking, host) not in {0, first})
                break
            except AssertionError:
                continue

        assert serial(asking, host) not in {0, first}
        assert invocation(asking, host) == started
        assert {c["reason"] for one in requests(asking, OWN.name(host)) for c in one["status"]["conditions"]} == {"AutoApproved"}
    finally:
        without_flags(asking.live, controller, "kube-controller-manager.service")
    shell(asking.live, host, 'rm "$1"', str(OWN.path))
    asks_and_gets(asking, host, "it has no client certificate")


def test_kubelets_follow_a_new_authority_that_signs_for_them(asking: LabCluster) -> None:
    old = succession.trust(asking.state, OWN.authority).signer

    assert asking.inv("rotate.authority", OWN.authority).returncode == 0

    new = succession.trust(asking.state, OWN.authority).signer
    assert new != old
    found = json.loads(asking.inv("certs", "--json", "-").stdout)["items"]
    own = {one["host"]: one["issuer"] for one in found if one["path"] == str(OWN.path)}
    assert own == dict.fromkeys((host.name for host in workers(asking)), new.common_name)
    asking.read_again()
    assert_no_token_is_left(asking)
    until(lambda: set(ready(asking).values()) == {"True"})
    assert asking.inv("plan").returncode == 0


def invocation(cluster: LabCluster, host: Host) -> str:
    return cluster.live.run(host, "systemctl", "show", "--value", "-p", "InvocationID", "kubelet.service")


def test_workers_change_over_to_certificates_that_are_brought_and_back(asking: LabCluster) -> None:
    files = "/etc/kubernetes/kubelet/client.pem", "/etc/kubernetes/kubelet/bootstrap.kubeconfig"
    for text, there, gone in ((small().replace(BOOTSTRAP, ""), *files), (small(), *reversed(files))):
        asking.path.write_text(text)
        assert asking.inv("push").returncode == 0
        assert asking.inv("plan").returncode == 0
        for host in workers(asking):
            shell(asking.live, host, 'test -e "$1" && ! test -e "$2"', there, gone)
        until(lambda: set(ready(asking).values()) == {"True"})
