"""`up` makes a control plane; `push` and `plan` say and do the same, and the second run does nothing."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardway import render
from hardway.components import ALL, installed
from hardway.inventory import Host, load
from hardway.push import push, survey
from hardway.remote import protocol
from hardway.remote.cluster import FIELD_MANAGER
from hardway.verbs.program.console import Console
from hardway.verbs.program.running import programs, running
from hardway.verbs.program.session import Session
from tests.lab.conftest import LabCluster

pytestmark = pytest.mark.lab


def outside(cluster: LabCluster, host: Host) -> dict[str, str]:
    """What shows from outside whether anything was touched: inode and change time of each file, each unit's invocation."""
    paths = sorted(str(path) for path in render.paths(cluster.inventory, host, cluster.live.credentials))
    files = cluster.live.run(host, "stat", "-c", "%n %i %z", *paths)
    units = [component.unit for component in installed(cluster.inventory, host)]
    started = cluster.live.run(host, "systemctl", "show", "-p", "Id,InvocationID,NRestarts", *units)
    return {"files": files, "units": started}


def applied(cluster: LabCluster) -> dict[str, str]:
    """When the kit last changed each object that it put into the cluster; others, such as kubelets, go on writing to them."""
    found = {}
    for component in ALL:
        for manifest in render.manifests(component, cluster.inventory):
            fields = cluster.live.api(manifest.path).json()["metadata"]["managedFields"]
            (found[manifest.name],) = (one["time"] for one in fields if one["manager"] == FIELD_MANAGER)
    return found


def planned(cluster: LabCluster) -> list[str]:
    done = cluster.inv("plan", "--json", "-")
    found = json.loads(done.stdout)
    assert done.returncode == (2 if found["changes"] else 0)
    rows = [(host, change) for host, changes in found["hosts"].items() for change in changes]
    return [f"{host} {change['action']} {change.get('path') or change['unit']}" for host, change in rows] + [
        f"cluster {change['action']} {change['object']}" for change in found["objects"]
    ]


def test_up_ends_with_a_control_plane_that_answers_through_its_balancer(cluster: LabCluster) -> None:
    answer = cluster.live.api("/version")

    assert answer.status == 200
    assert answer.json()["gitVersion"] == f"v{cluster.inventory.versions.kubernetes}"


def test_a_second_push_changes_nothing_and_restarts_nothing(cluster: LabCluster) -> None:
    before = {host.name: outside(cluster, host) for host in cluster.inventory.hosts}
    objects = applied(cluster)

    done = cluster.inv("push")

    assert done.returncode == 0
    assert done.stdout == "nothing to change\n"
    assert before == {host.name: outside(cluster, host) for host in cluster.inventory.hosts}
    assert objects == applied(cluster)
    assert planned(cluster) == []


def pushed(cluster: LabCluster) -> dict[str, tuple[int, int]]:
    """Push, and how often each host was dialled and asked for a command."""
    session = Session.of(load(cluster.path), Console())  # as it is now
    with running(session, cluster.state, print) as live:
        push(live, survey(live, programs(session, print)), print)
        machines = [live.machine(host) for host in cluster.inventory.hosts]
    return {machine.name: (machine.connects, machine.execs) for machine in machines}


def test_a_push_with_nothing_to_do_costs_one_connection_and_one_command_a_host(cluster: LabCluster) -> None:
    session = Session(inventory=cluster.inventory, console=Console())
    with running(session, cluster.state, print) as live:
        push(live, survey(live, programs(session, print)), print)
        machines = [live.machine(host) for host in cluster.inventory.hosts]

    assert [(machine.connects, machine.execs) for machine in machines] == [(1, 1)] * len(cluster.inventory.hosts)
    # Paths, units and questions, beside the script: none is said twice.
    assert max(machine.bytes_sent for machine in machines) <= len(protocol.SCRIPT) + 3_000


def test_kubectl_is_the_administrator_and_of_the_clusters_version(cluster: LabCluster) -> None:
    who = cluster.inv("kubectl", "--", "auth", "whoami", "-o", "json")
    version = cluster.inv("kubectl", "--", "version", "-o", "json")
    names = cluster.inv("kubectl", "--", "get", "ns", "-o", "json")

    user = json.loads(who.stdout)["status"]["userInfo"]
    assert (user["username"], "hardway:administrators" in user["groups"]) == ("kubernetes-admin", True)
    assert "system:masters" not in user["groups"]
    spoken = json.loads(version.stdout)
    assert {spoken["clientVersion"]["gitVersion"], spoken["serverVersion"]["gitVersion"]} == {f"v{cluster.inventory.versions.kubernetes}"}
    assert "kube-system" in {item["metadata"]["name"] for item in json.loads(names.stdout)["items"]}


def test_what_changed_behind_our_back_is_planned_and_put_right(cluster: LabCluster) -> None:
    host = cluster.controller(2)
    config = "/etc/kubernetes/kube-scheduler/config.yaml"
    cluster.live.run(host, "sh", "-c", f"echo '# drift' >>{config}; chmod 0600 /etc/kubernetes/kube-scheduler/ca.crt")
    expected = [
        f"controller-2 update {config}",
        "controller-2 update /etc/kubernetes/kube-scheduler/ca.crt",
        "controller-2 restart kube-scheduler.service",
    ]
    before = outside(cluster, cluster.controller(1))

    assert planned(cluster) == expected
    shown = cluster.inv("plan")
    assert "\n-# drift" in shown.stdout
    assert cluster.inv("push").returncode == 0
    assert planned(cluster) == []
    assert before == outside(cluster, cluster.controller(1))


def test_an_object_that_changed_behind_our_back_is_planned_and_put_right(cluster: LabCluster) -> None:
    name = "hardway:kube-apiserver-kubelet-client"
    cluster.inv("kubectl", "--", "delete", "clusterrolebinding", name)

    assert planned(cluster) == [f"cluster create clusterrolebinding/{name}"]
    assert cluster.inv("push").returncode == 0
    assert planned(cluster) == []


def test_an_object_that_no_component_wants_any_more_goes_and_those_of_others_stay(cluster: LabCluster) -> None:
    for name in ("hardway:old", "theirs"):
        cluster.inv("kubectl", "--", "create", "clusterrolebinding", name, "--clusterrole=view", "--user=nobody")
    cluster.inv("kubectl", "--", "label", "clusterrolebinding", "hardway:old", f"{render.LABEL}={render.OWNER}")

    assert planned(cluster) == ["cluster delete clusterrolebinding/hardway:old"]
    assert cluster.inv("push").returncode == 0
    assert planned(cluster) == []
    assert cluster.inv("kubectl", "--", "delete", "clusterrolebinding", "theirs").returncode == 0


@pytest.fixture
def chattier_scheduler(cluster: LabCluster) -> Iterator[None]:
    """An inventory that asks for another flag of one component; afterwards it is as it was, and so are the hosts."""
    text = cluster.path.read_text()
    cluster.path.write_text(text + "\nflags:\n  kube-scheduler: {v: 1}\n")
    yield
    cluster.path.write_text(text)
    assert cluster.inv("push").returncode == 0
    assert planned(cluster) == []


@pytest.mark.usefixtures("chattier_scheduler")
def test_a_flag_of_the_operators_rolls_one_component_and_nothing_else(cluster: LabCluster) -> None:
    unit = "/etc/systemd/system/kube-scheduler.service"
    hosts = [host.name for host in cluster.inventory.on("controller")]

    assert planned(cluster) == [f"{h} {do}" for h in hosts for do in (f"update {unit}", "restart kube-scheduler.service")]
    costs = pushed(cluster)
    assert {costs[host.name] for host in cluster.inventory.on("loadbalancer", "worker")} == {(1, 1)}
    # Looked at, its old text read, locked, changed, settled; a gate that is closed for long asks there too. Else gates go over the network.
    assert all(connects == 1 and 5 <= commands <= 8 for connects, commands in (costs[name] for name in hosts)), costs
    running = cluster.live.run(cluster.controller(3), "sh", "-c", "tr '\\0' ' ' </proc/$(pidof kube-scheduler)/cmdline")
    assert running.endswith(" --v=1 ")


@pytest.mark.usefixtures("chattier_scheduler")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_push_that_is_interrupted_leaves_the_rest_alone_and_goes_on_when_run_again(cluster: LabCluster, number: signal.Signals) -> None:
    last = outside(cluster, cluster.controller(3))
    with cluster.start("push") as process:
        assert process.stderr
        for line in process.stderr:
            if "kube-scheduler: 1 file, restart" in line:
                process.send_signal(number)
                break
        said = process.stderr.read()

    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in said
    assert last == outside(cluster, cluster.controller(3))
    assert cluster.inv("push").returncode == 0
    assert planned(cluster) == []


def test_each_daemon_reads_its_own_keys_and_no_others(cluster: LabCluster) -> None:
    host = cluster.controller(1)
    users = [component.name for component in ALL if component.on == ("controller",)]
    for file in cluster.live.credentials.files(host):
        if "PRIVATE KEY" not in cluster.live.run(host, "cat", str(file.path)):
            continue
        group = file.owner.partition(":")[2]
        for user in users:
            readable = cluster.live.run(
                host, "sh", "-c", f"setpriv --reuid={user} --regid={user} --clear-groups cat {file.path} >/dev/null 2>&1; echo $?"
            )
            assert (readable.strip() == "0") == (user == group), f"{user} and {file.path}"


def test_no_secret_is_in_argv_units_journals_or_plans(cluster: LabCluster) -> None:
    key = cluster.live.credentials.encryption_keys[0].secret
    for host in cluster.inventory.on("controller"):
        seen = cluster.live.run(
            host, "sh", "-c", "cat /proc/[0-9]*/cmdline /etc/systemd/system/*.service | tr '\\0' ' '; journalctl --no-pager"
        )
        assert key not in seen
        assert "PRIVATE KEY" not in seen


def test_a_host_that_cannot_be_reached_is_named_and_nothing_is_changed(cluster: LabCluster) -> None:
    host = cluster.controller(3)
    cluster.live.run(host, "sh", "-c", "systemctl stop ssh.socket ssh.service 2>/dev/null; true")
    try:
        done = cluster.inv("push")
    finally:
        cluster.live.run(host, "systemctl", "start", "ssh.service")

    assert done.returncode == 1
    assert re.search(r"^error: controller-3: cannot be reached at \S+ port 22", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_render_writes_what_the_hosts_carry(cluster: LabCluster, tmp_path: Path) -> None:
    assert cluster.inv("render", "--hosts", "lb-1", "--out", str(tmp_path)).returncode == 0
    path = "/etc/kubernetes/kube-apiserver-lb/haproxy.cfg"
    carried = cluster.live.run(cluster.inventory.on("loadbalancer")[0], "cat", path)

    assert (tmp_path / "lb-1" / path.lstrip("/")).read_text() == carried


def test_an_operator_without_the_clusters_state_is_refused_and_nothing_changes(cluster: LabCluster) -> None:
    """A state/ that was lost makes new authorities; pushed, they would cut the members off from each other."""
    before = {host.name: outside(cluster, host) for host in cluster.inventory.hosts}
    pki = cluster.state.root / "pki"
    kept = pki.rename(pki.with_name("kept"))
    try:
        done = cluster.inv("push")
        assert not pki.exists()
    finally:
        kept.rename(pki)

    assert done.returncode == 1
    assert re.search(
        r"^error: controller-1: it trusts etcd-ca-\w+, .* unknown to this state/; bring its state/ back", done.stderr, re.MULTILINE
    )
    assert before == {host.name: outside(cluster, host) for host in cluster.inventory.hosts}
    assert planned(cluster) == []
