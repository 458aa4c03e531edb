"""CoreDNS: answers for the names of Services and Pods, to Pods on every node, and with one replica lost."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable
from functools import partial

from hardway.components.coredns import COMPONENT
from hardway.components.deployment import NAMESPACE
from hardway.desired import Check, Stage
from hardway.errors import Mistake
from hardway.smoke import callers, pods
from hardway.smoke.callers import Fleet, Pod
from hardway.smoke.checks import kube_proxy
from hardway.smoke.checks.kube_proxy import Service, service
from hardway.smoke.pulse import beating
from hardway.smoke.removal import AT_ONCE_AND_FOR_ALL
from hardway.smoke.verdict import Failed, eventually, require

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
REPLICAS = f"{PODS}?labelSelector=k8s-app%3Dkube-dns"
KNOWN = 40.0  # seconds: that a name is unknown is remembered for up to 30
PATIENCE = 12  # seconds for one question; a resolver asks again after 5
STEADY = 5.0  # seconds without a failure after which it is taken to be well again
RECOVERED = 60.0
BACK = 90.0


def resolves(stage: Stage) -> str:
    """Ask for names from Pods, as a program does and as a resolver does; where the cluster is ours, ask each replica too."""
    fleet = callers.fleet(stage)
    one = service(stage, fleet)
    headless = stage.once(f"headless {fleet.name}", lambda: service(stage, fleet, name=fleet.name, clusterIP="None"))
    ours = bool(stage.inventory.hosts)
    servers = ["", *(pod["status"]["podIP"] for pod in _replicas(stage))] if ours else [""]
    evidence = []
    for pod in fleet.pods:
        domain = _domain(stage, pod)
        evidence.append(_by_program(stage, pod, one, fleet))
        names = dict(_names(stage, one, headless, fleet, domain))
        for server in servers:
            found = [f"{name} {_asked(stage, pod, name, wanted, server)}" for name, wanted in names.items()]
            evidence.append(f"nslookup there, of {server or 'whom /etc/resolv.conf names'}: {'; '.join(found)}")
        evidence.append(_port_of(stage, pod, one, domain))
    return "\n".join((*evidence, *(() if ours else ("which Pods answer is not looked at on a cluster that is not ours",))))


def survives_replica_loss(stage: Stage) -> str:
    """Kill a Pod of CoreDNS while Pods look names up."""
    fleet = callers.fleet(stage)
    one = service(stage, fleet)

    def few() -> str | None:
        number = len(_replicas(stage))
        return None if number >= 2 else f"{number}"

    eventually(stage, "two replicas of CoreDNS at least", few, within=BACK)  # one may be coming back from another loss
    before = _replicas(stage)
    victim = before[0]["metadata"]["name"]

    def ask() -> None:
        for pod in fleet.pods:
            if why := _unknown(stage, pod, one, fleet):
                raise Mistake.at(pod["metadata"]["name"], why)

    def back() -> str | None:
        names = {pod["metadata"]["name"] for pod in _replicas(stage)} - {victim}
        return None if len(names) == len(before) else f"{len(names)} of {len(before)} are Ready"

    _by_program(stage, fleet.pods[0], one, fleet)  # known before anything is killed
    with beating(ask) as pulse:
        require(stage.request("DELETE", f"{PODS}/{victim}", AT_ONCE_AND_FOR_ALL), f"the Pod {victim} to be deleted")
        lost = time.monotonic()
        eventually(stage, "names to be resolved", lambda: pulse.steady(STEADY, lost), within=RECOVERED)
        eventually(stage, f"another Pod in the place of {victim}", back, within=BACK)
    return f"{victim} killed; http://{one.name} from {len(fleet.pods)} Pods, by name: {pulse}; another has taken its place"


def _by_program(stage: Stage, pod: Pod, one: Service, fleet: Fleet) -> str:
    """A line that says that a program reaches a Service by its short name."""
    name = pod["metadata"]["name"]
    eventually(stage, f"the Pod {name} to reach http://{one.name}", partial(_unknown, stage, pod, one, fleet), within=KNOWN)
    return f"in the Pod {name} on {pod['spec']['nodeName']}: http://{one.name} answers"


def _unknown(stage: Stage, pod: Pod, one: Service, fleet: Fleet) -> str | None:
    """None if a program in a Pod reaches a Service by its name."""
    said = _run(stage, pod, "wget", "-q", "-O", "-", f"http://{one.name}:{kube_proxy.PORT}/hostname")
    return None if said in fleet.backends else said or f"no answer within {PATIENCE} s"


def _names(stage: Stage, one: Service, headless: Service, fleet: Fleet, domain: str) -> Iterable[tuple[str, set[str]]]:
    """Every name that is asked for, and its addresses; any, if none is known."""
    below = f"{stage.namespace}.svc.{domain}."
    behind = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in fleet.pods if pod["metadata"]["name"] in fleet.backends}
    yield f"{one.name}.{below}", {one.address}
    yield f"{headless.name}.{below}", set(behind.values())
    yield from ((f"{name}.{headless.name}.{below}", {address}) for name, address in behind.items())
    yield f"kubernetes.default.svc.{domain}.", {str(stage.inventory.service_address)} if stage.inventory.hosts else set()


def _asked(stage: Stage, pod: Pod, name: str, wanted: set[str], server: str) -> str:
    """The addresses that a name has, if they are those that it should have."""
    found: set[str] = set()

    def differ() -> str | None:
        said = _run(stage, pod, "nslookup", "-type=a", name, *([server] if server else []))
        found.clear()
        found.update(re.findall(r"^Address: (\S+)$", said, re.MULTILINE))
        return None if found and wanted in (found, set()) else " ".join(said.split()) or f"no answer within {PATIENCE} s"

    of = f" of {server}" if server else ""
    who = f"the Pod {pod['metadata']['name']} on {pod['spec']['nodeName']}"
    eventually(stage, f"{who} to be told{of} that {name} is {', '.join(sorted(wanted)) or 'there'}", differ, within=KNOWN)
    return ", ".join(sorted(found))


def _port_of(stage: Stage, pod: Pod, one: Service, domain: str) -> str:
    """A line that says at which port a Service is, by its SRV record."""
    target = f"{one.name}.{stage.namespace}.svc.{domain}"
    name = f"_http._tcp.{target}."

    def differs() -> str | None:
        said = _run(stage, pod, "nslookup", "-type=srv", name)
        found = re.search(rf"service = \d+ \d+ {kube_proxy.PORT} {re.escape(target)}\.?$", said, re.MULTILINE)
        return None if found else " ".join(said.split())

    eventually(stage, f"the SRV record {name}", differs, within=KNOWN)
    return f"nslookup -type=srv there: {name} is port {kube_proxy.PORT} of {target}"


def _domain(stage: Stage, pod: Pod) -> str:
    """The cluster's domain, as the kubelet has told it the Pod."""
    said = _run(stage, pod, "cat", "/etc/resolv.conf")
    found = re.search(r"^search .*?\bsvc\.(\S+)", said, re.MULTILINE)
    if found is None:
        raise Failed("/etc/resolv.conf of a Pod to name the cluster's domain", said)
    return found[1]


def _run(stage: Stage, pod: Pod, *argv: str) -> str:
    """What a program says in a Pod, on either stream."""
    return pods.shell(stage, pod["metadata"]["name"], shlex.join(("timeout", str(PATIENCE), *argv))).strip()


def _replicas(stage: Stage) -> list[Pod]:
    """The Pods of CoreDNS that are Ready."""
    items: list[Pod] = require(stage.api(REPLICAS), "the Pods of CoreDNS to be listed").json()["items"]
    return [pod for pod in items if pods.unready(pod) is None and "deletionTimestamp" not in pod["metadata"]]


CHECKS = (
    Check(
        name="dns.service",
        component=COMPONENT.name,
        proves="Pods on every node are told the addresses of Services, of Pods behind a headless one and of the API, by each replica",
        run=resolves,
        permissions=kube_proxy.PERMISSIONS,
        sabotage="CoreDNS is scaled to nothing",
    ),
    Check(
        name="dns.survives-replica-loss",
        component=COMPONENT.name,
        proves="with a replica of CoreDNS killed names are resolved, and another takes its place",
        run=survives_replica_loss,
        needs=frozenset({"api", "hosts", "disruptive"}),
        sabotage="CoreDNS is scaled to one",
    ),
)
