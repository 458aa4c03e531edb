"""kube-apiserver: every instance answers, the balancer reaches each of them, and kubectl shows what they say."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hardway.components import kube_apiserver
from hardway.desired import Check, Permission, Stage
from hardway.inventory import Host
from hardway.smoke.config_map import config_map
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, Skipped, balancer, expecting, require

UNIT = kube_apiserver.COMPONENT.unit


def ready(stage: Stage) -> str:
    """Ask every instance, and the endpoint, whether it is ready and what it is."""
    version = f"v{stage.inventory.versions.kubernetes}"
    evidence = []
    for host in (*stage.inventory.on("controller"), None):
        look = Journal(host, UNIT) if host else balancer(stage.inventory)
        where = kube_apiserver.url(host) if host else stage.inventory.server
        with expecting(f"/readyz and /version of {where} to answer", look):
            closed = kube_apiserver.ready(stage, host)
            is_version = kube_apiserver.version(stage, host)
            passed = kube_apiserver.subchecks(stage.api("/readyz?verbose", host=host), "[+]")
        if closed:
            raise Failed(f"{where} to be ready", closed, look)
        if is_version != version:
            raise Failed(f"{where} to be {version}", is_version, look)
        evidence.append(f"GET {where}/readyz?verbose, /version: 200, {len(passed)} sub-checks passed, none failed; {is_version}")
    return "\n".join(evidence)


def balanced(stage: Stage) -> str:
    """Connect again and again, and tell by the certificates who has answered."""
    inventory = stage.inventory
    controllers = inventory.on("controller")
    if len(controllers) < 2:
        raise Skipped("there is one API server: nothing to balance")
    look = balancer(stage.inventory)
    by_serial = {stage.issued("kube-apiserver", host): host.name for host in controllers}
    endpoint = Host(name="endpoint", address=inventory.endpoint.address, roles=frozenset())
    times = 3 * len(controllers)
    with expecting(f"{times} connections to {inventory.server}", look):
        shown = [stage.served(endpoint, inventory.endpoint.port) for _ in range(times)]
    reached = Counter(by_serial.get(serial, f"an unknown server ({serial:x})") for serial in shown)
    count = ", ".join(f"{name} {reached[name]}" for name in sorted(reached))
    if set(reached) != set(by_serial.values()):
        raise Failed(f"{times} new connections to reach each of {', '.join(sorted(by_serial.values()))}", count, look)
    reads = [_written_through(stage, host, [other for other in controllers if other != host]) for host in controllers]
    return "\n".join([f"TLS to {inventory.server}, {times} times, by the serial number of the certificate: {count}", *reads])


def json_of_kubectl(stage: Stage) -> str:
    """Show one object by kubectl and by the API, at one resourceVersion."""
    name = unique("json")
    made = config_map(stage, name, {"written": secrets.token_hex(8)})
    argv = ("get", "configmap", name, "--namespace", stage.namespace, "-o", "json", "--show-managed-fields")
    command = f"kubectl {' '.join(argv)}"
    with expecting(f"`{command}` to answer"):
        shown = stage.kubectl(*argv)
    if shown is None:
        raise Skipped("there is no kubectl to run")
    path = f"/api/v1/namespaces/{stage.namespace}/configmaps/{name}"
    answer: Mapping[str, Any] = require(stage.api(path), f"200 to GET {path}").json()
    printed = json.loads(shown)
    version = made["metadata"]["resourceVersion"]
    if printed != answer:
        differ = sorted(key for key in {*printed, *answer} if printed.get(key) != answer.get(key))
        raise Failed(f"`{command}` to show what GET {path} says", f"other values of {', '.join(differ)}")
    if answer["metadata"]["resourceVersion"] != version:
        raise Failed(f"resourceVersion {version}, as when it was written", answer["metadata"]["resourceVersion"])
    return f"{command}: the same document as GET {path}, {len(shown)} characters at resourceVersion {version}"


def _written_through(stage: Stage, writer: Host, readers: list[Host]) -> str:
    """Write through one instance, read through the others."""
    name, word = unique(writer.name), secrets.token_hex(8)
    look = Journal(writer, UNIT)
    with expecting(f"a write through {writer.name}", look):
        config_map(stage, name, {"written": word}, host=writer)
    path = f"/api/v1/namespaces/{stage.namespace}/configmaps/{name}"
    for reader in readers:
        look = Journal(reader, UNIT)
        with expecting(f"{reader.name} to answer", look):
            answer = require(stage.api(path, host=reader), f"what was written through {writer.name} to be read through {reader.name}", look)
        if answer.json()["data"] != {"written": word}:
            raise Failed(f"{reader.name} to read what was written through {writer.name}", str(answer.json()["data"]), look)
    return f"ConfigMap {name}: POST through {writer.name}, the same by GET through {', '.join(reader.name for reader in readers)}"


CHECKS = (
    Check(
        name="apiserver.ready",
        component="kube-apiserver",
        proves="every API server, and the endpoint, serves the Kubernetes API of the declared version with all its parts ready",
        run=ready,
        permissions=(Permission(path="/readyz", verbs=("get",)), Permission(path="/version", verbs=("get",))),
        sabotage="one API server is stopped",
    ),
    Check(
        name="apiserver.json",
        component="kube-apiserver",
        proves="what `kubectl get -o json` shows is the API server's own answer",
        run=json_of_kubectl,
        permissions=(Permission(resource="configmaps", verbs=("create", "get", "delete")),),
        sabotage="kubectl is another program, which shows another document",
    ),
    Check(
        name="apiserver.balanced",
        component="kube-apiserver",
        proves="new connections through the balancer reach every API server, and what is written through one is read through the others",
        run=balanced,
        needs=frozenset({"api", "hosts"}),
        sabotage="the balancer holds one server in maintenance",
    ),
)
