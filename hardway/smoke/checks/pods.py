"""Pods: the smallest unit, with an address of its own; and the patterns in which several containers make one."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from hardway.desired import Check, Permission, Stage
from hardway.smoke import callers, pods
from hardway.smoke.verdict import Failed, Skipped, eventually, require

WITHIN = 30.0  # seconds until something shows between containers, or Pods, that run
SHARED: Mapping[str, Any] = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
VOLUMES = [{"name": "shared", "emptyDir": {}}]

# It takes every line away from what the main container writes, and says so; by itself it would never end.
_SIDECAR = """
touch /shared/log /shared/begun
tail -f /shared/log | while read -r line; do echo "shipped $line"; echo "$line" >>/shared/shipped; done
"""
# It finds the sidecar there, and ends when what it wrote was taken away.
_WORK = """
[ -e /shared/begun ] || exit 9
echo "$WORD" >>/shared/log
until grep -qs "$WORD" /shared/shipped; do sleep 0.2; done
"""
# The main container knows nothing but a port of localhost. No `wget`, and by its full name: images differ in what they call nc.
_AMBASSADOR = """
while :; do /bin/busybox nc -l -p 9000 -e /bin/busybox nc "$THERE" "$PORT"; done
"""
_CLIENT = """
said=
until [ "$said" ]; do
  said=$(printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc 127.0.0.1 9000 2>/dev/null | tail -n 1)
  [ "$said" ] || sleep 0.2
done
echo "$said"
exec sleep 600
"""
# One format into another: `LEVEL message` into JSON.
_WRITES = """
printf 'INFO %s\\nWARN %s\\n' "$WORD" "$WORD" >/shared/log
exec sleep 600
"""
_ADAPTER = """
until [ -e /shared/log ]; do sleep 0.2; done
tail -f /shared/log | while read -r level message; do printf '{"level": "%s", "message": "%s"}\\n' "$level" "$message"; done
"""


def single(stage: Stage) -> str:
    """Let the Pods of all nodes call each other at their own addresses."""
    fleet = callers.fleet(stage)
    addresses = [pod["status"]["podIP"] for pod in fleet.pods]
    for pod, address in zip(fleet.pods, addresses, strict=True):
        name, look = pod["metadata"]["name"], pods.look(stage, pod)
        if addresses.count(address) > 1 or address == pod["status"]["hostIP"]:
            raise Failed(f"{name} to have an address of its own", f"{address}, of {', '.join(addresses)} and its node's", look)
        given = next((host.pod_range for host in stage.inventory.hosts if host.name == pod["spec"]["nodeName"]), None)
        if given and stage.inventory.network == "bridge" and ip_address(address) not in given:
            raise Failed(f"{name} to have an address out of its node's range {given}", address, look)
    told = [f"{one['metadata']['name']} on {one['spec']['nodeName']}: {one['status']['podIP']}" for one in fleet.pods]
    return "\n".join([*told, *(_meet(stage, one, other) for one, other in itertools.permutations(fleet.pods, 2))])


def sidecar(stage: Stage) -> str:
    """Make a Pod whose sidecar is there before its main container, works for it, and does not hold up its end."""
    word = secrets.token_hex(8)
    began = {"exec": {"command": ["test", "-e", "/shared/begun"]}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 60}
    beside = pods.container(stage, "sidecar", command=["sh", "-c", _SIDECAR], restartPolicy="Always", startupProbe=began, **SHARED)
    main = pods.container(stage, "main", command=["sh", "-c", _WORK], env=[{"name": "WORD", "value": word}], **SHARED)
    name = pods.make(stage, "sidecar", main, initContainers=[beside], restartPolicy="Never", volumes=VOLUMES)
    if "restartPolicy" not in pods.read(stage, name)["spec"]["initContainers"][0]:
        raise Skipped("this cluster knows no sidecars: they came with Kubernetes 1.29")
    pod = pods.ended(stage, name)
    look = pods.look(stage, pod)
    (of_main,), (of_beside,) = (
        [one["state"].get("terminated", {}) for one in pod["status"][which]] for which in ("containerStatuses", "initContainerStatuses")
    )
    if pod["status"]["phase"] != "Succeeded":
        raise Failed(f"{name} to succeed: its main container finds the sidecar's work", f"exit code {of_main.get('exitCode')}", look)
    times = [of_beside.get("startedAt", ""), of_main["startedAt"], of_main["finishedAt"], of_beside.get("finishedAt", "")]
    if times != sorted(times) or not all(times):
        raise Failed(f"the sidecar of {name} to begin before its main container and end after it", ", ".join(times), look)
    shipped = f"shipped {word}"
    pods.says(stage, pod, f"the sidecar of {name} to ship {word}", lambda text: text.strip() == shipped, container="sidecar")
    return (
        f"{name}, an initContainer with restartPolicy Always: began {times[0]}, main from {times[1]} to {times[2]}, ended {times[3]}\n"
        f"log of its sidecar: {shipped}; the Pod has Succeeded, though the sidecar would run on"
    )


def ambassador(stage: Stage) -> str:
    """Make a Pod whose main container reaches another Pod by a port of its own localhost."""
    target = callers.fleet(stage).pods[-1]
    there, wanted = target["status"]["podIP"], target["metadata"]["name"]
    env = [{"name": "THERE", "value": there}, {"name": "PORT", "value": str(pods.NETEXEC)}]
    proxy = pods.container(stage, "ambassador", command=["sh", "-c", _AMBASSADOR], env=env)
    name = pods.make(stage, "ambassador", pods.container(stage, "main", command=["sh", "-c", _CLIENT]), proxy)
    said = _says(stage, name, "main", f"its ambassador to bring {wanted}'s answer to localhost", lambda text: text.strip() == wanted)
    return f"{name}: GET /hostname at 127.0.0.1:9000, where its ambassador leads to {there}:{pods.NETEXEC}: {said.strip()}"


def adapter(stage: Stage) -> str:
    """Make a Pod that writes in one format, and speaks in another."""
    word = secrets.token_hex(8)
    main = pods.container(stage, "main", command=["sh", "-c", _WRITES], env=[{"name": "WORD", "value": word}], **SHARED)
    beside = pods.container(stage, "adapter", command=["sh", "-c", _ADAPTER], **SHARED)
    name = pods.make(stage, "adapter", main, beside, volumes=VOLUMES)
    wanted = [{"level": level, "message": word} for level in ("INFO", "WARN")]
    said = _says(stage, name, "adapter", f"its adapter to say {wanted}", lambda text: _documents(text) == wanted)
    return f"{name}: main writes `INFO {word}` and `WARN {word}` to a shared volume; log of its adapter: {' '.join(said.splitlines())}"


def _meet(stage: Stage, one: pods.Pod, other: pods.Pod) -> str:
    """One calls the other, who sees it at its own address: nobody stands in for it."""
    caller, called = (pod["metadata"]["name"] for pod in (one, other))
    own, there = (pod["status"]["podIP"] for pod in (one, other))
    heard: dict[str, str] = {}

    def met() -> str | None:
        for request in ("hostname", "clientip"):
            answer = pods.get(stage, caller, pods.NETEXEC, f"/dial?host={there}&port={pods.NETEXEC}&protocol=http&request={request}")
            said = require(answer, f"{caller} to be asked for a call").json()
            if "responses" not in said:
                return f"{', '.join(said.get('errors', ['no answer']))}"
            heard[request] = said["responses"][0]
        return None

    route = f"{one['spec']['nodeName']} to {other['spec']['nodeName']}"
    look = pods.look(stage, one)
    eventually(stage, f"{caller} to reach {called} at {there}, from {route}", met, within=WITHIN, look=look)
    seen = heard["clientip"].rpartition(":")[0].strip("[]")
    if (heard["hostname"], seen) != (called, own):
        raise Failed(f"{called} at {there}, who sees {caller} as {own}", f"{heard['hostname']}, who sees it as {seen}", look)
    return f"{route}: {caller} reaches {called} at {there}:{pods.NETEXEC}, and is seen as {seen}"


def _says(stage: Stage, name: str, container: str, expected: str, enough: Callable[[str], bool]) -> str:
    """The log of a container that runs, once it is as it should be."""
    (pod,) = pods.ready(stage, name)
    return pods.says(stage, pod, f"{name}: {expected}", enough, container=container, within=WITHIN)


def _documents(text: str) -> list[Any]:
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return []


def _check(name: str, proves: str, run: Callable[[Stage], str], permissions: tuple[Permission, ...], sabotage: str) -> Check:
    return Check(name=name, component="cluster", proves=proves, run=run, permissions=permissions, first=True, sabotage=sabotage)


_ALONE = (*pods.MAKES, pods.READS_LOGS)
_APART = "its containers do not share what they should: network, volume"

CHECKS = (
    _check(
        "pods.single",
        "each Pod has an address of its own, at which Pods on every other node reach it, and as which they see it",
        single,
        callers.NEEDS,
        "a worker has lost its routes to the other's Pods",
    ),
    _check(
        "pods.sidecar",
        "a sidecar begins before the main container, works for it over a shared volume, and does not hold up the Pod's end",
        sidecar,
        _ALONE,
        _APART,
    ),
    _check(
        "pods.ambassador",
        "containers of a Pod share localhost: one leads the other to a service elsewhere",
        ambassador,
        (*callers.NEEDS, pods.READS_LOGS),
        _APART,
    ),
    _check(
        "pods.adapter",
        "containers of a Pod share a volume: one turns what the other writes into another format",
        adapter,
        _ALONE,
        _APART,
    ),
)
