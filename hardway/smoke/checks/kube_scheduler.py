"""kube-scheduler: gives new Pods a node, led by one instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardway.components import kube_scheduler
from hardway.desired import Check, Permission, Stage
from hardway.smoke import nodes, pods
from hardway.smoke.checks import leader
from hardway.smoke.removal import NAME, NODES
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Skipped, eventually, require

COMPONENT = kube_scheduler.COMPONENT
SCHEDULED = "Scheduled"
WITHIN = 20.0  # seconds; it takes up what it has failed to place within ten
ALIKE = 4  # Pods, of which chance alone would not put all on one of two nodes


def assigns(stage: Stage) -> str:
    """Make a Pod, and on a cluster of ours a node that alone fits it."""
    pod = unique("pod")
    own = bool(stage.inventory.hosts)  # on a cluster that is not ours no Node object is made
    look = leader.journal(stage, COMPONENT)
    node = unique("node")
    if own:
        nodes.node(stage, node)
        spec = nodes.spec(nodes.account(stage), {NAME: node})
    else:  # it may really run, until it is deleted
        spec = pods.spec(stage, pods.container(stage, "pause", "pause"))
    made = nodes.pod(stage, pod, spec)
    if "nodeName" in made["spec"]:
        raise Failed("a Pod without a node when it is created", made["spec"]["nodeName"])

    def assigned() -> str | None:
        bound, why = _placed(stage, pod)
        if not own and "no nodes available" in why:
            raise Skipped("the cluster has no node")
        return None if bound else f"it has no node: {why}"

    try:
        eventually(stage, f"the Pod {pod} to get a node", assigned, within=WITHIN, look=look)
    except Failed:
        _, why = _placed(stage, pod)
        if not own and "nodes are available" in why:  # a scheduler is there, and has looked
            raise Skipped(f"no node takes a Pod: {why}") from None
        raise
    there, _ = _placed(stage, pod)
    if own and there != node:
        raise Failed(f"the Pod on {node}, which alone fits it", f"it is on {there}", look)
    message = ""

    def told() -> str | None:
        nonlocal message
        query = f"fieldSelector=involvedObject.uid%3D{made['metadata']['uid']},reason%3D{SCHEDULED}"
        path = f"/api/v1/namespaces/{stage.namespace}/events?{query}"
        events = require(stage.api(path), "events to be listed").json()["items"]
        by = [
            event for event in events if "default-scheduler" in {event.get("reportingComponent"), event.get("source", {}).get("component")}
        ]
        message = by[0]["message"] if by else ""
        return None if by else f"no {SCHEDULED} event of default-scheduler"

    eventually(stage, f"an event {SCHEDULED} of default-scheduler", told, within=WITHIN, look=look)
    return "\n".join(
        (
            *([f"POST {NODES}: {there}, with a taint that only our Pod tolerates and a label that it asks for"] if own else []),
            f"POST /api/v1/namespaces/{stage.namespace}/pods: {pod}, without a node; then spec.nodeName is {there}",
            f"event {SCHEDULED} of default-scheduler: {message}",
        )
    )


def filters(stage: Stage) -> str:
    """Make Pods that no node can hold, see why they wait, and make a node that can."""
    look = leader.journal(stage, COMPONENT)
    small, large = unique("small"), unique("large")
    account = nodes.account(stage)
    nodes.node(stage, small, labels={f"{NAME}-group": small})
    one_more = ({"key": nodes.NOT_READY, "operator": "Exists"},)
    waits = {
        "big": (nodes.spec(account, {f"{NAME}-group": small}, memory="2Gi"), "Insufficient memory"),
        "averse": (nodes.spec(account, {NAME: small}, tolerations=one_more), "untolerated taint"),
        "choosy": (nodes.spec(account, {NAME: large}), "didn't match Pod's node affinity/selector"),
    }
    names = {kind: unique(kind) for kind in waits}
    for kind, (spec, _) in waits.items():
        nodes.pod(stage, names[kind], spec)
    evidence = []
    for kind, (_, reason) in waits.items():
        told = _waits(stage, names[kind], reason, look)
        evidence.append(f"Pod {names[kind]}: Pending, {told}")
    nodes.node(stage, large, memory="4Gi", labels={f"{NAME}-group": small})
    for kind in ("big", "choosy"):
        _goes_to(stage, names[kind], large, "which was just made and alone fits it", look)
        evidence.append(f"POST {NODES}: {large}, then the Pod {names[kind]} is there")
    _waits(stage, names["averse"], waits["averse"][1], look)
    return "\n".join([*evidence, f"the Pod {names['averse']} still waits"])


def scores(stage: Stage) -> str:
    """Load one of two nodes, and see where Pods go that fit on both."""
    look = leader.journal(stage, COMPONENT)
    group, loaded, free = unique("group"), unique("loaded"), unique("free")
    account = nodes.account(stage)
    for name in (loaded, free):
        nodes.node(stage, name, labels={f"{NAME}-group": group})
    load = nodes.spec(account, {NAME: loaded}, cpu="700m", memory="700Mi")
    nodes.pod(stage, unique("load"), {**load, "nodeName": loaded})
    alike = nodes.spec(account, {f"{NAME}-group": group})
    names = [unique("pod") for _ in range(ALIKE)]
    for name in names:
        nodes.pod(stage, name, alike)
    for name in names:
        _goes_to(stage, name, free, f"since 70 % of {loaded} is asked for and nothing of this one", look)
    term = {"weight": 100, "preference": {"matchExpressions": [{"key": NAME, "operator": "In", "values": [loaded]}]}}
    wishes = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
    fond = unique("fond")
    nodes.pod(stage, fond, {**alike, "affinity": wishes})
    _goes_to(stage, fond, loaded, "which it prefers", look)
    return (
        f"nodes {loaded}, of which 700m and 700Mi of 1 and 1Gi are asked for, and {free}: all of {ALIKE} Pods that fit both are on {free}\n"
        f"Pod {fond}, which prefers {loaded}, is there"
    )


def _placed(stage: Stage, pod: str) -> tuple[str, str]:
    """A Pod's node, and what it says of having none."""
    path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod}"
    now: Mapping[str, Any] = require(stage.api(path), "the Pod to be read").json()
    found = [c for c in now.get("status", {}).get("conditions", ()) if c["type"] == "PodScheduled"]
    why = found[0].get("message", found[0].get("reason", "")) if found else "nobody says why"
    return now["spec"].get("nodeName", ""), why


def _waits(stage: Stage, pod: str, reason: str, look: Any) -> str:
    """A Pod stays without a node, for the right reason."""
    told = ""

    def so() -> str | None:
        nonlocal told
        there, told = _placed(stage, pod)
        if there:
            raise Failed(f"the Pod {pod} to stay without a node: {reason}", f"it is on {there}", look)
        return None if reason in told else told

    eventually(stage, f"the Pod {pod} to stay without a node: {reason}", so, within=WITHIN, look=look)
    return told


def _goes_to(stage: Stage, pod: str, node: str, why: str, look: Any) -> None:
    def there() -> str | None:
        bound, told = _placed(stage, pod)
        if bound not in {"", node}:
            raise Failed(f"the Pod {pod} on {node}, {why}", f"it is on {bound}", look)
        return None if bound else f"it has no node: {told}"

    eventually(stage, f"the Pod {pod} on {node}, {why}", there, within=WITHIN, look=look)


CHECKS = (
    Check(
        name="scheduler.assigns",
        component="kube-scheduler",
        proves="a new Pod gets a node: the scheduler binds it and says so",
        run=assigns,
        sabotage="every scheduler is stopped",
        permissions=(
            Permission(resource="pods", verbs=("create", "get", "delete")),
            Permission(resource="events", verbs=("list",)),
        ),
    ),
    Check(
        name="scheduler.filters",
        component="kube-scheduler",
        proves="nodes that cannot hold a Pod drop out: by memory, by a taint, by a label; a fitting one that appears is taken",
        run=filters,
        needs=frozenset({"api", "hosts"}),
        sabotage="the schedulers run without the filter for taints",
    ),
    Check(
        name="scheduler.scores",
        component="kube-scheduler",
        proves="among the nodes that can hold a Pod the best is taken: the least loaded, or the one that it prefers",
        run=scores,
        needs=frozenset({"api", "hosts"}),
        sabotage="the schedulers prefer the most loaded node",
    ),
    leader.check("scheduler.leader", COMPONENT),
)
