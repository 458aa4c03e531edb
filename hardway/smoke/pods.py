"""Real Pods of the checks: small, within PodSecurity's `restricted`, of one image that does what a check asks for, and gone soon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from hardway import desired
from hardway.components import images
from hardway.desired import RESTRICTED, Answer, Permission, Stage
from hardway.errors import Mistake
from hardway.smoke import nodes
from hardway.smoke.removal import IN_A_SPACE, LABEL, NODES, place
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, Skipped, eventually, require

Pod = Mapping[str, Any]  # as the API has it
Ask = Callable[[Pod], str | None]  # None if the Pod is as it should be, else what it is

LIFE = 600  # seconds after which the kubelet ends a Pod, whoever has forgotten it
GRACE = 1  # second between the request to end and the end; without any the API would forget a Pod whose containers still run
WITHIN = 90.0  # seconds until a Pod has come about; on a busy machine each takes several
WRITTEN = 10.0  # seconds until what a container has written is in its log
NETEXEC = 8080  # the port at which agnhost's netexec listens if it is not told another one
TOLD = 3  # events shown when one does not

# What a check that uses these has to declare.
MAKES = (
    Permission(resource="pods", verbs=("create", "get", "delete")),
    Permission(resource="events", verbs=("list",)),
    Permission(resource="networkpolicies", group=IN_A_SPACE["networkpolicies"], verbs=("create", "delete")),
)
LISTS_NODES = Permission(resource="nodes", verbs=("list",), cluster=True)
READS_LOGS = Permission(resource="pods/log", verbs=("get",))
EXECUTES = Permission(resource="pods/exec", verbs=("create", "get"))  # both: kubectl's websocket begins with a GET
ASKS = Permission(resource="pods/proxy", verbs=("get",))


def container(stage: Stage, name: str, *args: str, memory: str = "64Mi", **fields: Any) -> dict[str, Any]:
    """A container of the image, with its arguments; whatever else it has is named as in the API: `command`, `ports`, `readinessProbe`."""
    image = stage.pods.image or images.reference(stage.inventory, "agnhost")
    return desired.container(image, name, *args, memory=memory, **fields)


def http_get(port: int, path: str = "/", **fields: Any) -> dict[str, Any]:
    """A probe by HTTP, each second."""
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": 1, **fields}


def spec(stage: Stage, *containers: Mapping[str, Any], node: str = "", **fields: Any) -> dict[str, Any]:
    """The spec of a Pod, for a template too: of one node if that is named; else of any with linux and an architecture of the image."""
    term: dict[str, Any] = {
        "matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": list(stage.pods.architectures)}],
        **({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]} if node else {}),
    }
    placed = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    secret = stage.pods.pull_secret
    return {
        # On clusters of others the account of the namespace, which is there, so that none has to be made.
        "serviceAccountName": nodes.account(stage) if stage.inventory.hosts else "default",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [one.document() for one in stage.pods.tolerations],
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": RESTRICTED,
        **({"imagePullSecrets": [{"name": secret}]} if secret else {}),
        "containers": list(containers),
        **fields,
        "affinity": {**fields.get("affinity", {}), "nodeAffinity": placed},
    }


def make(
    stage: Stage, name: str, *containers: Mapping[str, Any], node: str = "", labels: Mapping[str, str] | None = None, **fields: Any
) -> str:
    """Make a Pod, and remember to delete it; its full name, which no other run has taken."""
    if not stage.inventory.hosts:
        stage.once("network policy", lambda: _let_talk(stage))
    name = unique(name)
    if "subdomain" in fields:  # it has a name in DNS only if it has one itself
        fields = {"hostname": name, **fields}
    body = {"activeDeadlineSeconds": LIFE, **spec(stage, *containers, node=node, **fields)}
    stage.create(_path(stage), {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {**(labels or {})}}, "spec": body})
    return name


def ready(stage: Stage, *names: str, within: float = WITHIN) -> tuple[Pod, ...]:
    """The Pods once each is Ready."""
    return tuple(until(stage, name, "to be Ready", unready, within=within) for name in names)


def ended(stage: Stage, name: str, within: float = WITHIN) -> Pod:
    """The Pod once all its containers have ended, well or not."""
    return until(stage, name, "to end", lambda pod: None if _over(pod) else unready(pod) or "it runs", within=within, endless=False)


def until(stage: Stage, name: str, expected: str, ask: Ask, *, within: float = WITHIN, endless: bool = True) -> Pod:
    """The Pod once nothing is left to say of it; a failure says what is, with its last events. One that ends while it should not is one."""
    seen: Pod = {}

    def so() -> str | None:
        nonlocal seen
        seen = read(stage, name)
        said = ask(seen)
        if said and endless and _over(seen):
            raise Failed(f"the Pod {name} {expected}", f"it has ended: {_told(stage, seen, said)}", look(stage, seen))
        return said

    try:
        stage.wait(so, within)
    except Mistake as mistake:
        raise Failed(f"the Pod {name} {expected}", _told(stage, seen, str(mistake)), look(stage, seen)) from mistake
    return seen


def unready(pod: Pod) -> str | None:
    """None if a Pod is Ready; else what holds it up, container by container."""
    status = pod.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    if not pod["spec"].get("nodeName"):
        return f"it has no node: {conditions.get('PodScheduled', {}).get('message', 'nobody says why')}"
    of = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    states = [f"{one['name']} {said}" for one in of if (said := _state(one))]
    why = " ".join(filter(None, (status.get("reason"), status.get("message"))))
    return "; ".join(filter(None, (f"{status.get('phase', 'Pending')} on {pod['spec']['nodeName']}", why, *states)))


def read(stage: Stage, name: str) -> Pod:
    """The Pod as it is now."""
    document: Pod = require(stage.api(_path(stage, name)), f"the Pod {name} to be read").json()
    return document


def is_ready(stage: Stage, name: str) -> bool:
    """Whether a Pod is there, and Ready."""
    answer = stage.api(_path(stage, name))
    return answer.status == 200 and unready(answer.json()) is None


def delete(stage: Stage, *names: str, within: float = WITHIN) -> None:
    """Delete Pods, and see them gone: their containers have ended by then."""
    for name in names:
        require(stage.request("DELETE", _path(stage, name), {"gracePeriodSeconds": GRACE}), f"the Pod {name} to be deleted")
    for name in names:
        _gone(stage, name, within)


def log(stage: Stage, name: str, container: str = "") -> str:
    """What a container has written; it may be left out where there is one."""
    answer = stage.api(f"{_path(stage, name)}/log" + (f"?container={container}" if container else ""))
    return require(answer, f"the log of the Pod {name}").body.decode(errors="replace")


def says(  # noqa: PLR0913 - what is read, what it has to be, and where to look if it is not
    stage: Stage,
    pod: Pod,
    expected: str,
    enough: Callable[[str], bool],
    *,
    container: str = "",
    within: float = WRITTEN,
    journal: Journal | None = None,
) -> str:
    """The log of a container once it is as it should be: the runtime may still be copying when the container has ended."""
    name, said = pod["metadata"]["name"], ""

    def so() -> str | None:
        nonlocal said
        said = log(stage, name, container)
        return None if enough(said) else f"the log of {container or name} is {said[-300:]!r}"

    eventually(stage, expected, so, within=within, look=journal or look(stage, pod))
    return said


def execute(stage: Stage, name: str, *argv: str, container: str = "") -> str:
    """Standard output of a command in a container; a Mistake if it fails."""
    which = ("--container", container) if container else ()
    said = stage.kubectl("exec", "--namespace", stage.namespace, name, *which, "--", *argv)
    if said is None:
        raise Skipped("there is no kubectl for this machine")
    return said


def get(stage: Stage, name: str, port: int, path: str = "/") -> Answer:
    """GET from a Pod, through the API server's proxy."""
    return stage.api(f"{_path(stage, name)}:{port}/proxy{path}")


def shell(stage: Stage, name: str, script: str) -> str:
    """What a script of sh writes, in a Pod that runs agnhost's netexec, which executes whatever it is asked to."""
    answer = require(get(stage, name, NETEXEC, f"/shell?cmd={quote(script, safe='')}"), f"the Pod {name} to run a script")
    return str(answer.json().get("output", ""))


def usable(stage: Stage, *, least: int = 1) -> tuple[str, ...]:
    """The nodes that the checks' Pods may use, at most as many as were asked for; Skipped if there are too few."""
    items = require(stage.api(NODES), "nodes to be listed").json()["items"]
    against = {item["metadata"]["name"]: _against(stage, item) for item in items}
    names = [name for name, why in against.items() if not why][: stage.pods.nodes or None]
    if len(names) < least:
        others = "".join(f"; {name} {why}" for name, why in against.items() if why)
        raise Skipped(f"it takes {least} {'node' if least == 1 else 'nodes'}, and may use {len(names)}{others}"[:300])
    return tuple(names)


def look(stage: Stage, pod: Pod) -> Journal | None:
    """The journal of the kubelet that runs a Pod, if its node is ours."""
    node = pod.get("spec", {}).get("nodeName")
    return next((Journal(host, "kubelet.service") for host in stage.inventory.hosts if host.name == node), None)


def _let_talk(stage: Stage) -> None:
    """Let the Pods of checks be reached, and reach others, also where the namespace forbids it to whom nobody has allowed it."""
    allowed: dict[str, Any] = {"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": unique("talk")},
        "spec": {"podSelector": {"matchLabels": LABEL}, **allowed},
    }
    stage.create(place(stage.namespace, "networkpolicies"), body)


def _path(stage: Stage, name: str = "") -> str:
    return f"/api/v1/namespaces/{stage.namespace}/pods{f'/{name}' if name else ''}"


def _over(pod: Pod) -> bool:
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def _state(status: Mapping[str, Any]) -> str:
    """What is to be said of a container; nothing if it is well."""
    state = status.get("state", {})
    if waiting := state.get("waiting"):
        return f"waits: {_why(waiting)}"
    if ended := state.get("terminated"):
        return "" if ended["exitCode"] == 0 else f"ended with {ended['exitCode']}: {_why(ended)}"
    return "" if status.get("ready") else "runs and is not ready"


def _why(state: Mapping[str, str]) -> str:
    return " ".join(filter(None, (state.get("reason"), state.get("message"))))


def _told(stage: Stage, pod: Pod, said: str) -> str:
    """What was said of a Pod, and its last events."""
    if not pod:
        return said
    query = quote(f"involvedObject.uid={pod['metadata']['uid']}")
    try:
        answer = stage.api(f"/api/v1/namespaces/{stage.namespace}/events?fieldSelector={query}")
    except Mistake:
        return said
    events = answer.json()["items"] if answer.status == 200 else []
    last = sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")[-TOLD:]
    return "; ".join((said, *(f"{event['reason']}: {' '.join(event['message'].split())}" for event in last)))


def _gone(stage: Stage, name: str, within: float) -> None:
    seen: list[Pod] = []

    def so() -> str | None:
        answer = stage.api(_path(stage, name))
        if answer.status == 200:
            seen.append(answer.json())
        return None if answer.status == 404 else "it is still there"

    try:
        stage.wait(so, within)
    except Mistake as mistake:
        pod = seen[-1] if seen else {}
        raise Failed(f"the Pod {name} to go", _told(stage, pod, str(mistake)), look(stage, pod)) from mistake


def _against(stage: Stage, node: Mapping[str, Any]) -> str:
    """What speaks against a node; nothing if it may be used."""
    labels = node["metadata"].get("labels", {})
    conditions = node.get("status", {}).get("conditions", ())
    if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
        return "is not Ready"
    if node["spec"].get("unschedulable"):
        return "is cordoned"
    if (system := labels.get("kubernetes.io/os")) != "linux":
        return f"runs {system}"
    if (arch := labels.get("kubernetes.io/arch")) not in stage.pods.architectures:
        return f"is {arch}"
    taints: Iterable[Mapping[str, str]] = node["spec"].get("taints", ())
    hard = [taint for taint in taints if taint["effect"] != "PreferNoSchedule"]
    return "".join(f"has the taint {one['key']}" for one in hard if not any(t.covers(one) for t in stage.pods.tolerations))
