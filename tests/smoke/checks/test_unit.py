"""A unit's check sees every way in which a daemon can differ from what was rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from hardway import render
from hardway.components import containerd, etcd, kube_apiserver_lb, pod_network
from hardway.components.daemon import quoted
from hardway.desired import Component, Stage
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.observed import Facts, Observed, UnitState
from hardway.smoke.checks import unit
from hardway.smoke.verdict import Failed, Skipped

HOST = Host(name="controller-1", address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"}))
INVENTORY = Inventory(
    cluster="test",
    hosts=(HOST,),
    networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
    endpoint=Endpoint(loadbalancer="none", address=HOST.address),
    flags={"etcd": {"auto-compaction-retention": 'a b"%$\\'}},
)
FACTS = Facts(arch="amd64", cgroup=2, systemd=252, boot_id="", clock=0.0, disk_free=0, memory=0)


def rendered(component: Component, inventory: Inventory, host: Host = HOST) -> str:
    for draft in component.files(inventory, host, FACTS):
        if draft.path.name == component.unit:
            return render.text(draft.content, inventory=inventory, host=host, facts=FACTS)  # type: ignore[arg-type] # a Template
    raise AssertionError(component.unit)


@dataclass
class Machine:
    """Answers the questions as a host would, on which etcd runs as rendered."""

    inventory: Inventory = INVENTORY
    show: dict[str, str] = field(
        default_factory=lambda: {
            "ActiveState": "active",
            "SubState": "running",
            "UnitFileState": "enabled",
            "ActiveEnterTimestamp": "Tue 2026-11-24 10:00:00 UTC",
            "NRestarts": "0",
            "InvocationID": "abc",
            "FragmentPath": "/etc/systemd/system/etcd.service",
            "DropInPaths": "",
            "NeedDaemonReload": "no",
        }
    )
    said: dict[str, str] = field(
        default_factory=lambda: {
            "file": rendered(etcd.COMPONENT, INVENTORY),
            "security": "→ Overall exposure level for etcd.service: 1.3 OK 🙂",
            "pid": "42",
            "program": "/usr/local/bin/etcd\n/usr/local/bin/etcd",
            "user": "etcd",
            "flags": "\n".join(unit.words(rendered(etcd.COMPONENT, INVENTORY))),
            "version": "etcd Version: 3.7.3\nGit SHA: 0",
        }
    )

    def run(self, _: Host, *argv: str) -> str:
        mark = argv[4]
        show = "\n".join(f"{key}={value}" for key, value in self.show.items())
        return "".join(f"\n{mark} {name}\n{answer}\n" for name, answer in {"show": show, **self.said}.items())

    def began(self, _: Host) -> Observed:
        state = UnitState(active="active", sub="running", enabled=True, invocation="abc", restarts=0)
        return Observed(facts=FACTS, units={"etcd.service": state})


def judge(machine: Machine, component: Component = etcd.COMPONENT) -> str:
    return unit.runs_as_rendered(component, cast("Stage", machine))


def test_a_daemon_as_rendered_passes_and_its_state_is_the_evidence() -> None:
    evidence = judge(Machine())

    for said in (
        "controller-1",
        "active since Tue 2026-11-24 10:00:00 UTC",
        "etcd Version: 3.7.3",
        "user etcd",
        "NRestarts 0",
        "exposure 1.3",
    ):
        assert said in evidence


def shown(key: str, value: str) -> Callable[[Machine], None]:
    return lambda machine: machine.show.update({key: value})


def said(key: str, value: str) -> Callable[[Machine], None]:
    return lambda machine: machine.said.update({key: value})


def told(key: str, old: str, new: str) -> Callable[[Machine], None]:
    return lambda machine: machine.said.update({key: machine.said[key].replace(old, new)})


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        (shown("ActiveState", "failed"), "it is failed (running)"),
        (shown("UnitFileState", "disabled"), "it is disabled, not enabled"),
        (shown("FragmentPath", "/run/systemd/system/etcd.service"), "its file is /run/systemd/system/etcd.service"),
        (shown("NeedDaemonReload", "yes"), "systemd has not read its file since that was changed"),
        (shown("NRestarts", "1"), "it has restarted since the run began (NRestarts 0, now 1)"),
        (shown("InvocationID", "other"), "it has restarted since the run began"),
        (told("file", "RestartSec=2", "RestartSec=9"), "its file is not the rendered one: `RestartSec=9` instead of `RestartSec=2`"),
        (
            said("security", "→ Overall exposure level for etcd.service: 8.2 EXPOSED"),
            "systemd-analyze security rates it 8.2, more than 2.0",
        ),
        (said("security", "Failed to connect"), "systemd-analyze security rates it None"),
        (said("program", "/usr/local/bin/etcd (deleted)\n/usr/local/bin/etcd"), "it runs /usr/local/bin/etcd (deleted)"),
        (said("user", "root"), "it runs as root"),
        (
            told("flags", "--client-cert-auth=true", "--client-cert-auth=false"),
            "it has --client-cert-auth=false, it lacks --client-cert-auth=true",
        ),
        (said("version", "etcd Version: 3.7.31"), "it says it is 'etcd Version: 3.7.31', declared is 3.7.3"),
    ],
)
def test_a_daemon_that_differs_fails(sabotage: Callable[[Machine], None], reason: str) -> None:
    machine = Machine()
    sabotage(machine)

    with pytest.raises(Failed) as failed:
        judge(machine)

    assert reason in str(failed.value)


def test_a_daemon_that_does_not_run_is_not_judged_by_its_process() -> None:
    machine = Machine()
    machine.show["ActiveState"] = "inactive"
    machine.said = {"file": machine.said["file"], "security": "", "pid": "0"}

    with pytest.raises(Failed, match="it is inactive"):
        judge(machine)


def test_a_component_that_the_inventory_has_no_host_for_is_skipped() -> None:
    with pytest.raises(Skipped, match="no host with the role loadbalancer"):
        judge(Machine(), kube_apiserver_lb.COMPONENT)


def test_the_words_are_those_that_systemd_makes_of_the_line() -> None:
    hostile = 'a b"%$\\;'
    line = f"[Service]\nExecStart=/bin/x --one=1 \\\n  {quoted('--two=' + hostile)}\nRestart=no\n"

    assert unit.words(line) == ["/bin/x", "--one=1", f"--two={hostile}"]


def test_haproxys_own_words_after_a_reload_are_no_difference() -> None:
    host = replace(HOST, roles=frozenset({"loadbalancer"}))
    inventory = replace(INVENTORY, hosts=(host,))
    text = rendered(kube_apiserver_lb.COMPONENT, inventory)
    first, *rest = unit.words(text)
    machine = Machine(inventory=inventory)
    machine.show["FragmentPath"] = "/etc/systemd/system/kube-apiserver-lb.service"
    machine.said |= {
        "file": text,
        "user": "kube-apiserver-lb",
        "flags": "\n".join([first, "-sf", "17", "-x", "sockpair@4", *rest]),
        "version": "HAProxy 2.6",
    }

    assert "HAProxy 2.6" in judge(machine, kube_apiserver_lb.COMPONENT)


WORKER = Host(name="worker-1", address=IPv4Address("10.0.0.2"), roles=frozenset({"worker"}), pod_range=IPv4Network("10.200.0.0/24"))
NODE = replace(INVENTORY, hosts=(WORKER,), flags={})


def routes() -> Machine:
    """A worker on which the unit of the routes has done its work."""
    text = rendered(pod_network.COMPONENT, NODE, WORKER)
    machine = Machine(inventory=NODE)
    machine.show |= {"FragmentPath": "/etc/systemd/system/pod-network.service", "SubState": "exited", "Result": "success", "User": ""}
    commands = (f"ExecStart={{ path={words[0]} ; argv[]={' '.join(words)} ; ignore_errors=no ; pid=7 }}" for words in unit.commands(text))
    security = "→ Overall exposure level for pod-network.service: 5.9 MEDIUM"
    machine.said = {"file": text, "commands": "\n".join(commands), "security": security, "pid": "0"}
    return machine


def test_a_unit_that_has_done_its_work_passes_with_its_commands_as_evidence() -> None:
    evidence = judge(routes(), pod_network.COMPONENT)

    assert "worker-1: " in evidence
    assert "unit file and 2 commands as rendered, Result success" in evidence


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        (shown("ActiveState", "activating"), "it is activating"),
        (shown("SubState", "running"), "it is running, with the result success"),
        (shown("Result", "exit-code"), "it is exited, with the result exit-code"),
        (shown("User", "nobody"), "it runs as nobody"),
        (told("commands", "routes.sh", "other.sh"), "not those of the rendered unit: `/bin/sh /etc/kubernetes/pod-network/other.sh`"),
        (told("commands", "ExecStart={ path=/usr/sbin/nft ; argv[]=", ""), "not those of the rendered unit: `1 of 2 commands`"),
        (told("security", "5.9", "7.1"), "rates it 7.1, more than 6.0"),
    ],
)
def test_a_unit_that_has_done_other_work_fails(sabotage: Callable[[Machine], None], reason: str) -> None:
    machine = routes()
    sabotage(machine)

    with pytest.raises(Failed) as failed:
        judge(machine, pod_network.COMPONENT)

    assert reason in str(failed.value)


def test_the_user_is_the_one_that_the_unit_names_and_root_where_it_names_none() -> None:
    text = rendered(containerd.COMPONENT, NODE, WORKER)
    machine = Machine(inventory=NODE)
    machine.show["FragmentPath"] = "/etc/systemd/system/containerd.service"
    program = "/usr/local/bin/containerd"
    machine.said |= {"file": text, "program": f"{program}\n{program}", "flags": "\n".join(unit.words(text))}
    machine.said |= {"user": "root", "version": "containerd github.com/containerd/containerd/v2 v2.4.2 "}

    assert "user root" in judge(machine, containerd.COMPONENT)

    machine.said["user"] = "containerd"
    with pytest.raises(Failed, match="it runs as containerd"):
        judge(machine, containerd.COMPONENT)


def test_a_command_that_may_fail_is_told_without_its_sign() -> None:
    assert unit.commands("[Service]\nExecStart=-/bin/a b\nExecStart=/bin/c\n") == [["/bin/a", "b"], ["/bin/c"]]
