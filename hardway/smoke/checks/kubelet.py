"""kubelet: runs on a node what the API says that it should run, by way of the runtime, and lets nobody in who does not belong."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hardway.components import kubelet
from hardway.desired import Check, Permission, Stage
from hardway.inventory import Host
from hardway.smoke import callers, pods
from hardway.smoke.checks.sockets import listening
from hardway.smoke.checks.strangers import Guest, stranger
from hardway.smoke.config_map import config_map
from hardway.smoke.removal import NAME
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, eventually, expecting, require

COMPONENT = kubelet.COMPONENT
READ_ONLY_PORT = 10255
NOTICED = 30.0  # seconds until a probe has changed what others see
PROBED: Mapping[str, Any] = {"periodSeconds": 1, "timeoutSeconds": 10}  # on a busy machine each takes a while
# What it is given is written to its log, how often it has begun to its volume. What is probed is a child of the container's own process,
# so that the container does not end when that is killed.
# All by one stream: a runtime copies a container's two into its log side by side, so what comes first on one may stand second.
_MAIN = """
echo >>/scratch/starts
echo "$NODE $PLAIN $HIDDEN $(cat /plain/word) $(cat /hidden/word) $(wc -l </scratch/starts)"
touch /scratch/ready
/agnhost netexec 2>&1 &
exec sleep 3600
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A Pod that is asked for everything, and a Service before it."""

    name: str
    plain: str  # a word in its ConfigMap
    hidden: str  # another one in its Secret
    service: str


def runs(stage: Stage) -> str:
    """Give a Pod all that Pods are given, reach into it in every way, and take its health away; starve another one."""
    greedy = _greedy(stage)
    one = _subject(stage)
    (pod,) = pods.ready(stage, one.name)
    evidence = [
        _given(stage, one, pod, starts=1),
        _executed(stage, one, pod),
        _forwarded(stage, one, pod),
        _killed(stage, greedy),
        _gated(stage, one, pod),
        _restarted(stage, one, pod),
    ]
    return "\n".join(evidence)


def chain(stage: Stage) -> str:
    """Follow a container on each node from the API over the runtime to the kernel."""
    fleet, hosts = callers.fleet(stage), {host.name: host for host in stage.inventory.on("worker")}
    return "\n".join(_followed(stage, hosts[pod["spec"]["nodeName"]], pod) for pod in fleet.pods)


def refuses_strangers(stage: Stage) -> str:
    """Knock at every kubelet as nobody, as strangers, as the API servers do; and at the port that asks nobody who he is."""
    guests = (
        (Guest(name="nobody"), 401),
        (Guest(name="the API servers by another authority", pair=stranger(kubelet.CLIENT, None)), 401),
        (Guest(name="an unknown token", token=secrets.token_urlsafe(24)), 401),
        (Guest(name="somebody of ours with nothing to do here", pair=stage.issue("kubernetes", NAME)), 403),
        (Guest(name="the API servers", pair=stage.issue("kubernetes", kubelet.CLIENT)), 200),
    )
    evidence = []
    for host in COMPONENT.hosts(stage.inventory):
        look = Journal(host, COMPONENT.unit)
        url = f"https://{host.address}:{kubelet.PORT}"
        for guest, wanted in guests:
            with expecting(f"the kubelet on {host.name} to answer {guest.name}", look):
                status = stage.visit(url, "/pods", pair=guest.pair, token=guest.token).status
            if status != wanted:
                raise Failed(f"{wanted} of the kubelet on {host.name} for {guest.name}", str(status), look)
        with expecting(f"`ss` on {host.name} to list its sockets", look):
            ports = {one.local_port for one in listening(stage, host, kubelet.PORT, READ_ONLY_PORT)}
        if ports != {kubelet.PORT}:
            raise Failed(f"{kubelet.PORT} of {host.name} to be open and {READ_ONLY_PORT} closed", f"open are {sorted(ports)}", look)
        heard = ", ".join(f"{wanted} for {guest.name}" for guest, wanted in guests)
        evidence.append(f"GET {url}/pods: {heard}; ss: nobody listens at {READ_ONLY_PORT}")
    return "\n".join(evidence)


def _subject(stage: Stage) -> Subject:
    name, plain, hidden = unique("runs"), secrets.token_hex(8), secrets.token_hex(8)
    made = config_map(stage, name, {"word": plain})["metadata"]
    # Goes with the ConfigMap, so that nobody needs the right to list Secrets to find what a killed run has left.
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made["uid"]}
    secret = {"metadata": {"name": name, "ownerReferences": [owner]}, "stringData": {"word": hidden}}
    space = f"/api/v1/namespaces/{stage.namespace}"
    stage.create(f"{space}/secrets", {"apiVersion": "v1", "kind": "Secret", **secret})
    spec = {"selector": {NAME: name}, "ports": [{"port": pods.NETEXEC}]}
    stage.create(f"{space}/services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    answers = {"path": "/healthz", "port": pods.NETEXEC}
    main = pods.container(
        stage,
        "main",
        command=["sh", "-ec", _MAIN],
        env=[
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "PLAIN", "valueFrom": {"configMapKeyRef": {"name": name, "key": "word"}}},
            {"name": "HIDDEN", "valueFrom": {"secretKeyRef": {"name": name, "key": "word"}}},
        ],
        volumeMounts=[{"name": volume, "mountPath": f"/{volume}"} for volume in ("plain", "hidden", "scratch")],
        startupProbe={"httpGet": answers, "failureThreshold": 60, **PROBED},
        readinessProbe={"exec": {"command": ["test", "-e", "/scratch/ready"]}, "failureThreshold": 1, **PROBED},
        livenessProbe={"httpGet": answers, "failureThreshold": 3, **PROBED},
    )
    volumes = [
        {"name": "plain", "configMap": {"name": name}},
        {"name": "hidden", "secret": {"secretName": name}},
        {"name": "scratch", "emptyDir": {}},
    ]
    return Subject(name=pods.make(stage, "runs", main, labels={NAME: name}, volumes=volumes), plain=plain, hidden=hidden, service=name)


def _given(stage: Stage, one: Subject, pod: pods.Pod, *, starts: int) -> str:
    """Its log says that it was given what it should be; and how often it has begun, so that its volume has outlived its containers."""
    wanted = f"{pod['spec']['nodeName']} {one.plain} {one.hidden} {one.plain} {one.hidden} {starts}"
    expected = f"the log of {one.name} to begin with `{wanted}`: node, variables, files, starts"
    pods.says(stage, pod, expected, lambda text: text.partition("\n")[0] == wanted)
    return (
        f"log of {one.name}: its node, the words of its ConfigMap and its Secret as variables and as files, starts {starts} in its emptyDir"
    )


def _executed(stage: Stage, one: Subject, pod: pods.Pod) -> str:
    with expecting(f"a command to run in {one.name}", pods.look(stage, pod)):
        said = pods.execute(stage, one.name, "cat", "/hidden/word")
    if said != one.hidden:
        raise Failed(f"`cat /hidden/word` in {one.name} to say {one.hidden}", repr(said), pods.look(stage, pod))
    return f"kubectl exec {one.name} -- cat /hidden/word: the word of its Secret"


def _forwarded(stage: Stage, one: Subject, pod: pods.Pod) -> str:
    with expecting(f"a port of {one.name} to be forwarded", pods.look(stage, pod)), stage.forwarded(one.name, pods.NETEXEC) as port:
        ours = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            ours.request("GET", "/hostname")
            said = ours.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            said = f"{type(error).__name__} {error}"
        finally:
            ours.close()
    if said != one.name:
        raise Failed(f"{one.name} to say its name over kubectl port-forward", repr(said), pods.look(stage, pod))
    return f"kubectl port-forward {one.name} :{pods.NETEXEC}: GET /hostname answers {said}"


def _gated(stage: Stage, one: Subject, pod: pods.Pod) -> str:
    """Not ready, it is no endpoint; ready again, it is one."""
    address = pod["status"]["podIP"]

    def is_ready(ready: bool) -> str | None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{stage.namespace}/endpointslices"
        answer = stage.api(f"{path}?labelSelector=kubernetes.io/service-name%3D{one.service}")
        slices = require(answer, "EndpointSlices to be listed").json()["items"]
        found = {one["addresses"][0]: one["conditions"]["ready"] for items in slices for one in items.get("endpoints") or ()}
        return None if found == {address: ready} else f"the endpoints are {found}"

    for ready, script in ((True, ""), (False, "rm /scratch/ready"), (True, "touch /scratch/ready")):
        if script:
            pods.shell(stage, one.name, script)
        expected = f"the Service to have {address} {'ready' if ready else 'not ready, as its readiness probe fails'}"
        eventually(stage, expected, lambda ready=ready: is_ready(ready), within=NOTICED, look=pods.look(stage, pod))  # type: ignore[misc]
    return f"endpoints of Service {one.service}: {address} ready; not ready while the readiness probe failed; ready again"


def _restarted(stage: Stage, one: Subject, pod: pods.Pod) -> str:
    """Not alive, it is begun anew."""
    (before,) = pods.read(stage, one.name)["status"]["containerStatuses"]
    if before["restartCount"]:
        raise Failed(f"no restart of {one.name} while its liveness probe succeeds", str(before["restartCount"]), pods.look(stage, pod))
    pods.execute(stage, one.name, "killall", "agnhost")

    def begun(now: pods.Pod) -> str | None:
        (status,) = now["status"]["containerStatuses"]
        if status["restartCount"] != 1 or status["containerID"] == before["containerID"]:
            return f"restartCount {status['restartCount']}"
        return pods.unready(now)

    pods.until(stage, one.name, "to be restarted once and Ready, since its liveness probe failed", begun)
    return f"{one.name} without an answer to its liveness probe: restartCount 1, Ready again; {_given(stage, one, pod, starts=2)}"


def _greedy(stage: Stage) -> str:
    """A Pod that takes eight times the memory that it may have."""
    script = "exec dd if=/dev/zero of=/dev/null bs=256M count=1"
    return pods.make(stage, "greedy", pods.container(stage, "main", command=["sh", "-c", script], memory="32Mi"), restartPolicy="Never")


def _killed(stage: Stage, name: str) -> str:
    pod = pods.ended(stage, name)
    (status,) = pod["status"]["containerStatuses"]
    ended = status["state"]["terminated"]
    if (ended["exitCode"], ended.get("reason")) != (137, "OOMKilled"):
        got = f"exit code {ended['exitCode']}, {ended.get('reason')}"
        raise Failed(f"{name}, which takes 256Mi of 32Mi, to be OOMKilled", got, pods.look(stage, pod))
    return f"{name}, which took 256Mi of 32Mi: exit code 137, OOMKilled"


# $1 the container.
_OF_THE_KERNEL = """
pid=$(crictl inspect --output go-template --template '{{.info.pid}}' "$1")
tr '\\0' ' ' <"/proc/$pid/cmdline"; echo
read -r parent <<END
$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
END
cat "/proc/$parent/comm"
echo "$pid"
cat "/proc/$pid/cgroup"
"""


def _followed(stage: Stage, host: Host, pod: pods.Pod) -> str:
    """One container, as the API, the runtime and the kernel have it."""
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    (status,) = pods.read(stage, name)["status"]["containerStatuses"]
    runtime, _, identifier = status["containerID"].partition("://")
    look = Journal(host, "containerd.service")
    with expecting(f"crictl on {host.name} to know the container of {name}", look):
        shown = json.loads(stage.run(host, "crictl", "inspect", identifier))["status"]
    state, of = shown["state"], shown["labels"].get("io.kubernetes.pod.uid")
    if (runtime, state, of) != ("containerd", "CONTAINER_RUNNING", uid):
        raise Failed(f"a running container {identifier} of the Pod {uid} in containerd on {host.name}", f"{state} of {of}, {runtime}", look)
    with expecting(f"the kernel of {host.name} to know the container of {name}", look):
        command, parent, pid, *groups = stage.run(host, "sh", "-ec", _OF_THE_KERNEL, "sh", identifier).splitlines()
    if not any(identifier in group for group in groups) or not parent.startswith("containerd-shim"):
        raise Failed(f"process {pid} of {host.name} below a shim and in the control group of {identifier}", f"{parent}, {groups}", look)
    return (
        f"{name}, containerID {status['containerID']}; crictl inspect on {host.name}: {state} of the Pod {uid}, pid {pid}; "
        f"/proc/{pid}: `{command.strip()}`, a child of {parent}, in the control group {max(groups, key=len).rpartition(':')[2]}"
    )


CHECKS = (
    Check(
        name="kubelet.runs",
        component=COMPONENT.name,
        proves="containers run and are healthy as their Pod says: what they are given, logs, exec, port-forward, probes, memory limit",
        run=runs,
        permissions=(
            *pods.MAKES,
            pods.READS_LOGS,
            pods.EXECUTES,
            pods.ASKS,
            Permission(resource="pods/portforward", verbs=("create", "get")),
            Permission(resource="endpointslices", group="discovery.k8s.io", verbs=("list",)),
            *(Permission(resource=plural, verbs=("create", "delete")) for plural in ("configmaps", "secrets", "services")),
        ),
        first=True,
        sabotage="probes succeed whatever they look for; a memory limit is left out",
    ),
    Check(
        name="kubelet.chain",
        component=COMPONENT.name,
        proves="what runs on each node is what the API says: the Pod's container is the runtime's, and a process of the kernel",
        run=chain,
        needs=frozenset({"api", "hosts"}),
        first=True,
        sabotage="a container is killed behind the back of a kubelet that stands still",
    ),
    Check(
        name="kubelet.refuses-strangers",
        component=COMPONENT.name,
        proves="each kubelet lets the API servers in and nobody else, and has no port that asks nobody who he is",
        run=refuses_strangers,
        needs=frozenset({"hosts"}),
        sabotage="a kubelet lets in whoever comes, and opens its read-only port",
    ),
)
