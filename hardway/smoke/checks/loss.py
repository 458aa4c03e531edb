"""What the cluster survives: the controller that leads everything, and each leader alone, killed and brought back."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from hardway.components import ALL, etcd, kube_apiserver
from hardway.components.lease import holder_renews, lease
from hardway.desired import Check, Component, Secret, Stage
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.smoke import nodes
from hardway.smoke.config_map import config_map
from hardway.smoke.pulse import Pulse, beating
from hardway.smoke.removal import NAME
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, Skipped, balancer, eventually, expecting, require

FOUR = tuple(component for component in ALL if component.on == ("controller",))
LEADING = tuple(component for component in FOUR if component.name in {"kube-controller-manager", "kube-scheduler"})
STEADY = 3.0  # seconds without a failure after which something is taken to be well again
RECOVERED = 20.0  # seconds after a loss until clients notice nothing of it any more
TAKEN_OVER = 40.0  # a lease is good for 15 seconds, then the others try; a new leader reads everything first
BACK = 60.0


def survives_controller_loss(stage: Stage) -> str:
    """Kill the four services of the controller that leads, with etcd's leadership and both leases on it."""
    controllers = _enough(stage)
    all_well(stage)
    victim = _leads_all(stage)
    others = [host for host in controllers if host != victim]
    node, deployment = unique("node"), unique("deployment")
    nodes.node(stage, node)
    scale = _deployment(stage, deployment, node)
    _running(stage, deployment, node, 1)
    with beating(_writes(stage)) as pulse, stage.stopped(victim, *(component.unit for component in FOUR), killed=True):
        lost = time.monotonic()
        _steady(stage, pulse, lost)
        recovered = time.monotonic()
        taken = [_taken_over(stage, component, victim) for component in LEADING]
        leader = etcd.leader(stage)
        if leader not in others:
            raise Failed(f"a member of etcd on {' or '.join(host.name for host in others)} to lead", leader.name if leader else "none does")
        scale(3)
        names = _running(stage, deployment, node, 3)
        if failed := pulse.failed(recovered):
            raise Failed(f"every request to be answered once {victim.name} is known to be lost", f"{pulse}: {failed[0].error}")
    for component in FOUR:
        _up(stage, component, victim)
    for host in controllers:
        if len(listed := etcd.members(stage, host)) != len(controllers):
            raise Failed(
                f"{len(controllers)} members of etcd", f"{host.name} lists {', '.join(listed)}", Journal(host, etcd.COMPONENT.unit)
            )
    return "\n".join(
        (
            f"systemctl kill --signal=KILL of all four on {victim.name}, which led etcd and held both leases",
            f"PATCH and GET of a ConfigMap through {stage.inventory.server}, each over a new connection: {pulse}",
            *taken,
            f"etcd on {leader.name} leads",
            f"Deployment {deployment} scaled to 3 meanwhile: {', '.join(names)} have the node {node}",
            f"systemctl start of all four on {victim.name}: their gates are open, etcd has {len(controllers)} members",
        )
    )


def survives_member_loss(stage: Stage) -> str:
    """Kill the leader of etcd."""
    controllers = _enough(stage)
    all_well(stage)
    victim = etcd.leader(stage)
    if victim is None:
        raise Failed("one member of etcd to lead", "none does")
    before = etcd.status(stage, victim)
    others = [host for host in controllers if host != victim]
    name = unique("meanwhile")
    with beating(_writes(stage)) as pulse, stage.stopped(victim, etcd.COMPONENT.unit, killed=True):
        lost = time.monotonic()

        def elected() -> str | None:
            status = etcd.status(stage, others[0])
            return None if status.leader not in {0, before.member} else "no other member leads"

        eventually(stage, "another member to lead", elected, within=RECOVERED, look=Journal(others[0], etcd.COMPONENT.unit))
        now = etcd.status(stage, others[0])
        _steady(stage, pulse, lost)
        word = secrets.token_hex(8)
        config_map(stage, name, {"written": word})
    look = Journal(victim, etcd.COMPONENT.unit)
    eventually(stage, f"the member on {victim.name} to be back", partial(etcd.member_healthy, stage, victim), within=BACK, look=look)
    with expecting(f"the member on {victim.name} to be read", look):
        found = etcd.value(stage, victim, f"/registry/configmaps/{stage.namespace}/{name}") or b""
    if word.encode() not in found:
        raise Failed(f"{victim.name} to know what was written in its absence", f"{len(found)} bytes without it", look)
    return "\n".join(
        (
            f"systemctl kill --signal=KILL {etcd.COMPONENT.unit} on {victim.name}, which led in term {before.term}",
            f"another member leads in term {now.term}",
            f"PATCH and GET of a ConfigMap through {stage.inventory.server}, each over a new connection: {pulse}",
            f"started again, {victim.name} is healthy, and has {name}, which was written in its absence",
        )
    )


def takes_over(component: Component, stage: Stage) -> str:
    """Kill the instance that holds the Lease: it cannot give it back."""
    hosts = component.hosts(stage.inventory)
    if len(hosts) < 2:
        raise Skipped(f"there is one {component.name}, and no other to take over")
    for host in hosts:
        _up(stage, component, host)
    victim = _holder(stage, component)
    with stage.stopped(victim, component.unit, killed=True):
        lost = time.monotonic()
        taken = _taken_over(stage, component, victim)
        seconds = time.monotonic() - lost
    _up(stage, component, victim)
    return "\n".join(
        (
            f"systemctl kill --signal=KILL {component.unit} on {victim.name}, which held the lease",
            f"{taken} and renewed, after {seconds:.1f} s",
            f"systemctl start {component.unit} on {victim.name}: its gates are open",
        )
    )


def _enough(stage: Stage) -> tuple[Host, ...]:
    controllers = stage.inventory.on("controller")
    if len(controllers) < 3:
        raise Skipped(f"{len(controllers)} of etcd's members cannot lose one; three can")
    return controllers


def all_well(stage: Stage) -> None:
    """Nothing is broken on purpose where something is broken already."""
    for host in stage.inventory.on("controller"):
        expected = f"{host.name} to be well before anything is stopped"
        eventually(stage, expected, partial(_unwell, stage, host), within=RECOVERED, look=Journal(host, kube_apiserver.COMPONENT.unit))


def _unwell(stage: Stage, host: Host) -> str | None:
    return etcd.member_healthy(stage, host) or kube_apiserver.ready(stage, host)


def _up(stage: Stage, component: Component, host: Host) -> None:
    for gate in component.roll.gates:
        expected = f"{component.name} on {host.name} to be up: {gate.name}"
        eventually(stage, expected, partial(gate.ask, stage, host), within=BACK, look=Journal(host, component.unit))


def _leads_all(stage: Stage) -> Host:
    """The host of the controller manager that leads, made the leader of etcd and of the scheduler too."""
    manager, scheduler = (_holder(stage, component) for component in LEADING)
    leader = etcd.leader(stage)
    if leader is None:
        raise Failed("one member of etcd to lead", "none does")
    if leader != manager:
        target = str(etcd.status(stage, manager).member)
        with expecting(f"etcd to hand its leadership to {manager.name}", Journal(leader, etcd.COMPONENT.unit)):
            require(stage.etcd(leader, "/v3/maintenance/transfer-leadership", {"targetID": target}), "200")
    if scheduler != manager:
        _, component = LEADING
        with ExitStack() as stopped:
            for host in stage.inventory.on("controller"):
                if host != manager:
                    stopped.enter_context(stage.stopped(host, component.unit))
            holds = partial(_held_by, stage, component, lambda name: name == manager.name)
            eventually(stage, f"{component.name} on {manager.name} to lead, alone as it is", holds, within=TAKEN_OVER)
    return manager


def _holder(stage: Stage, component: Component) -> Host:
    found = lease(stage, component.name)
    holder = next((host for host in stage.inventory.on("controller") if found and host.name == found.host), None)
    if holder is None:
        raise Failed(f"{component.name} on one of the controllers to lead", found.holder if found else "there is no lease")
    return holder


def _held_by(stage: Stage, component: Component, wanted: Callable[[str], bool]) -> str | None:
    found = lease(stage, component.name)
    if found is None or not wanted(found.host):
        return f"the lease is held by {found.holder if found else 'nobody'}"
    return holder_renews(stage, component.name)


def _taken_over(stage: Stage, component: Component, victim: Host) -> str:
    expected = f"another {component.name} than that on {victim.name} to take the lease and renew it"
    eventually(stage, expected, partial(_held_by, stage, component, lambda name: name != victim.name), within=TAKEN_OVER)
    found = lease(stage, component.name)
    return f"lease {component.name}: now held by {found.holder if found else 'nobody'}"


def _writes(stage: Stage) -> Callable[[], None]:
    """Write a ConfigMap and read it, each over a connection of its own through the endpoint."""
    name = unique("pulse")
    path = f"/api/v1/namespaces/{stage.namespace}/configmaps/{name}"
    config_map(stage, name)
    pair: Secret = stage.issue("kubernetes", NAME, "hardway:administrators")
    numbers = itertools.count(1)
    visit = partial(stage.visit, stage.inventory.server, path, pair=pair)

    def beat() -> None:
        data = {"n": str(next(numbers))}
        if (answer := visit(method="PATCH", body={"data": data})).status != 200:
            raise Mistake.at(stage.inventory.server, f"it answers {answer.status} to a write")
        if (answer := visit()).status != 200 or answer.json()["data"] != data:
            raise Mistake.at(stage.inventory.server, f"it answers {answer.status} to a read, without what was just written")

    return beat


def _steady(stage: Stage, pulse: Pulse, since: float) -> None:
    expected = f"requests through {stage.inventory.server} to be answered again"
    eventually(stage, expected, lambda: pulse.steady(STEADY, since), within=RECOVERED, look=balancer(stage.inventory))


def _deployment(stage: Stage, name: str, node: str) -> Callable[[int], None]:
    """A Deployment of one Pod for a node of our own; what scales it."""
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments"
    labels = {NAME: name}
    template = {"metadata": {"labels": labels}, "spec": nodes.spec(nodes.account(stage), {NAME: node})}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    stage.create(path, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})

    def scale(replicas: int) -> None:
        require(stage.request("PATCH", f"{path}/{name}", {"spec": {"replicas": replicas}}), "the Deployment to be scaled")

    return scale


def _running(stage: Stage, deployment: str, node: str, replicas: int) -> list[str]:
    """The Deployment's Pods, once there are so many and each has the node. None of them runs: it has no kubelet."""
    names: list[str] = []

    def bound() -> str | None:
        path = f"/api/v1/namespaces/{stage.namespace}/pods?labelSelector={NAME}%3D{deployment}"
        pods = require(stage.api(path), "Pods to be listed").json()["items"]
        names[:] = sorted(pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") == node)
        return None if len(names) == replicas else f"{len(pods)} Pods, of which {len(names)} have the node"

    eventually(stage, f"{replicas} Pods of the Deployment {deployment} on {node}", bound, within=TAKEN_OVER)
    return names


CHECKS = (
    Check(
        name="cluster.survives-controller-loss",
        component="cluster",
        proves="the cluster goes on when the controller that leads everything is lost: reads, writes, controllers, scheduling; it rejoins",
        run=survives_controller_loss,
        needs=frozenset({"api", "hosts", "disruptive"}),
        sabotage="a second controller is lost with it",
    ),
    Check(
        name="etcd.survives-member-loss",
        component="etcd",
        proves="etcd goes on when its leader is lost, and the member that comes back catches up",
        run=survives_member_loss,
        needs=frozenset({"api", "hosts", "disruptive"}),
        sabotage="a second member is lost with it",
    ),
    *(
        Check(
            name=f"{prefix}.leader-takeover",
            component=component.name,
            proves=f"when the {component.name} that leads is killed, another takes the lease once it has run out",
            run=partial(takes_over, component),
            needs=frozenset({"api", "hosts", "disruptive"}),
            sabotage="the other instances are killed with it",
        )
        for prefix, component in zip(("controllers", "scheduler"), LEADING, strict=True)
    ),
)
