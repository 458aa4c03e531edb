"""containerd: the runtime answers over CRI, runs a container to its end and leaves nothing of it."""

from __future__ import annotations

import json
import re
import secrets
from functools import partial

from hardway.components import containerd
from hardway.desired import Check, Stage
from hardway.inventory import Host
from hardway.smoke import pods
from hardway.smoke.verdict import Failed, Journal, eventually, expecting

COMPONENT = containerd.COMPONENT
GONE = 60.0  # seconds until nothing is left of a Pod
CODE = 7  # with which the container ends
# $1 the Pod's uid, as control groups may spell it $2, its address $3; what of it is left. What costs most is asked last.
_LEFT = """
grep -ls -e "$1" -e "$2" /proc/[0-9]*/cgroup | sed 's/^/process /' | grep . && exit
for file in /var/lib/cni/networks/*/"$3"; do [ ! -e "$file" ] || { echo "address $file"; exit; }; done
crictl pods --quiet --state ready --label "io.kubernetes.pod.uid=$1" | sed 's/^/sandbox /'
"""


def runs(stage: Stage) -> str:
    """Ask each runtime who it is, let it run a container that ends with a code of its own, and look for what is left."""
    hosts = COMPONENT.hosts(stage.inventory)
    word = secrets.token_hex(8)
    made = {host: _ends(stage, host, word) for host in hosts}
    evidence = [_versions(stage, host) for host in hosts]
    ran = {host: pods.ended(stage, name) for host, name in made.items()}
    evidence += [_ended(stage, host, pod, word) for host, pod in ran.items()]
    pods.delete(stage, *made.values())
    evidence += [_gone(stage, host, pod) for host, pod in ran.items()]
    return "\n".join(evidence)


def _versions(stage: Stage, host: Host) -> str:
    """The runtime and what it runs are of the declared versions."""
    look = Journal(host, COMPONENT.unit)
    with expecting(f"the runtime of {host.name} to answer over CRI", look):
        said = stage.run(host, "sh", "-ec", "crictl version; runc --version")
    found = dict(re.findall(r"^([A-Z]\w+):\s+(\S+)$", said, re.MULTILINE))
    found["runc"] = next(iter(re.findall(r"^runc version (\S+)", said, re.MULTILINE)), "none")
    versions = stage.inventory.versions
    wanted = {"RuntimeName": "containerd", "RuntimeVersion": f"v{versions.containerd}", "RuntimeApiVersion": "v1", "runc": versions.runc}
    if wrong := {name: found.get(name) for name in wanted if found.get(name) != wanted[name]}:
        name, got = next(iter(wrong.items()))
        raise Failed(f"{name} on {host.name} to be {wanted[name]}", str(got), look)
    return f"crictl version; runc --version on {host.name}: containerd {found['RuntimeVersion']}, CRI v1, runc {found['runc']}"


def _ends(stage: Stage, host: Host, word: str) -> str:
    container = pods.container(stage, "main", command=["sh", "-c", f"echo {word}; exit {CODE}"])
    return pods.make(stage, "ends", container, node=host.name, restartPolicy="Never")


def _ended(stage: Stage, host: Host, pod: pods.Pod, word: str) -> str:
    """What the API says of the end is what the runtime says."""
    name, look = pod["metadata"]["name"], Journal(host, COMPONENT.unit)
    (status,) = pod["status"]["containerStatuses"]
    code = status["state"]["terminated"]["exitCode"]
    identifier = status["containerID"].removeprefix("containerd://")
    with expecting(f"crictl on {host.name} to know the container of {name}", look):
        shown = json.loads(stage.run(host, "crictl", "inspect", identifier))["status"]
    if (code, shown["state"], shown["exitCode"]) != (CODE, "CONTAINER_EXITED", CODE):
        raise Failed(
            f"the container of {name} to end with {CODE}", f"{code}, and {shown['state']} with {shown['exitCode']} by crictl", look
        )
    pods.says(stage, pod, f"the container of {name} to have written {word}", lambda text: text.strip() == word, journal=look)
    return (
        f"{name} on {host.name} of {shown['image']['image']}: wrote {word}; crictl inspect {identifier}: {shown['state']}, exitCode {CODE}"
    )


def _gone(stage: Stage, host: Host, pod: pods.Pod) -> str:
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    ask = partial(_left, stage, host, uid, pod["status"]["podIP"])
    look = Journal(host, COMPONENT.unit)
    eventually(stage, f"nothing of {name}, which was deleted, to be left on {host.name}", ask, within=GONE, look=look)
    return f"DELETE {name}: no sandbox, no process, no address of it on {host.name}"


def _left(stage: Stage, host: Host, uid: str, address: str) -> str | None:
    found = stage.run(host, "sh", "-c", _LEFT, "sh", uid, uid.replace("-", "_"), address).splitlines()
    return ", ".join(found) if found else None


CHECKS = (
    Check(
        name="runtime.runs",
        component=COMPONENT.name,
        proves="containerd and runc, of the declared versions, run a container to its end, tell its exit code, and leave nothing of it",
        run=runs,
        needs=frozenset({"api", "hosts"}),
        first=True,
        sabotage="another runc stands in for the declared one",
    ),
)
