"""Who makes connections for checks: nodes, and Pods that say their names, of which a run has one on each node."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hardway.components import kube_proxy
from hardway.desired import Stage
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.smoke import pods
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Journal

Pod = pods.Pod

BACKENDS = 3  # of those Pods, at most so many stand behind a Service
LIMIT = 20  # seconds for all connections that one caller is asked to make
SHORT = 2  # seconds that one which should not come about may take

# What a check that uses these has to declare.
NEEDS = (*pods.MAKES, pods.LISTS_NODES, pods.ASKS)

# $1 address, $2 port, $3 how often. A line for each connection, `= ` and the answer's last line; what else is said ends it.
# Hosts have no curl; bash, which Debian has everywhere, opens connections by itself.
_FROM_NODE = r"""
for ((i = 0; i < $3; i++)); do
  said=
  exec 3<>"/dev/tcp/$1/$2" || exit 0
  printf 'GET /hostname HTTP/1.0\r\n\r\n' >&3
  while IFS= read -r -t 2 line || [ "$line" ]; do said=$line; done <&3
  exec 3>&-
  printf '= %s\n' "$said"
done
"""
_FROM_POD = r"""
i=0
while [ $i -lt "$3" ]; do
  i=$((i + 1))
  said=$(timeout 2 wget -q -O - "http://$1:$2/hostname" 2>&1) || { printf '%s\n' "${said:-no answer within 2 s}"; exit 0; }
  printf '= %s\n' "$said"
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was answered to some connections, one after the other; the first without an answer ends them, with an error."""

    answers: tuple[str, ...]
    error: str = ""

    @classmethod
    def read(cls, said: str, times: int) -> Heard:
        """As the scripts write it."""
        lines = said.splitlines()
        answers = tuple(line[2:] for line in lines if line.startswith("= ") and line[2:])
        others = [line for line in lines if not line.startswith("= ")]
        error = "" if len(answers) == times else " ".join(others[-1].split()) if others else "no answer in time"
        return cls(answers=answers, error=error)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(Counter(self.answers).items()))
        return "; then ".join(filter(None, (counts, self.error)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who makes connections, and where to look if they do not come about."""

    name: str
    node: str  # on which it is
    ask: Callable[[str, int, int, int], str]  # address, port, how often, seconds for all of it -> what the script says
    look: Journal | None = None

    def get(self, address: str, port: int, times: int = 1, *, within: int = LIMIT) -> Heard:
        """Ask whoever answers there for its name, each time over a new connection."""
        return Heard.read(self.ask(address, port, times, within), times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The Pods that a run's checks share; the first few carry a label by which a Service finds them."""

    name: str  # also their subdomain
    pods: tuple[Pod, ...]

    @property
    def selector(self) -> dict[str, str]:
        return {"hardway-smoke-fleet": self.name}

    @property
    def backends(self) -> tuple[str, ...]:
        """The names of those that have the label."""
        return tuple(pod["metadata"]["name"] for pod in self.pods if self.selector.items() <= pod["metadata"]["labels"].items())


def fleet(stage: Stage) -> Fleet:
    """One Pod on each node that may be used, and two where there is one node; Ready. New ones, if the last are no longer."""

    def make() -> Fleet:
        nodes = pods.usable(stage)
        of = Fleet(name=unique("fleet"), pods=())
        made = [_echo(stage, of, node, backend=at < BACKENDS) for at, node in enumerate(nodes if len(nodes) > 1 else nodes * 2)]
        return Fleet(name=of.name, pods=pods.ready(stage, *made))

    made = (stage.once(f"fleet {number}", make) for number in itertools.count())
    return next(one for one in made if all(pods.is_ready(stage, pod["metadata"]["name"]) for pod in one.pods))


def of_pods(stage: Stage, found: Fleet) -> tuple[Caller, ...]:
    """Every Pod of the fleet."""
    return tuple(_pod(stage, pod) for pod in found.pods)


def of_nodes(stage: Stage, found: Fleet) -> tuple[Caller, ...]:
    """The nodes themselves on which the fleet is, of those that are ours."""
    nodes = {pod["spec"]["nodeName"] for pod in found.pods}
    return tuple(of_host(stage, host) for host in stage.inventory.on("worker") if host.name in nodes)


def of_host(stage: Stage, host: Host) -> Caller:
    """A host."""

    def ask(address: str, port: int, times: int, within: int) -> str:
        script = 'limit=$1 script=$2; shift 2; timeout "$limit" bash -c "$script" bash "$@" 2>&1 || true'
        return stage.run(host, "bash", "-c", script, "bash", str(within), _FROM_NODE, address, str(port), str(times))

    return Caller(name=host.name, node=host.name, ask=ask, look=_look(stage, host.name))


def _pod(stage: Stage, pod: Pod) -> Caller:
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]

    def ask(address: str, port: int, times: int, within: int) -> str:
        script = shlex.join(["timeout", str(within), "sh", "-c", _FROM_POD, "sh", address, str(port), str(times)])
        try:
            return pods.shell(stage, name, script)
        except Mistake as mistake:
            return str(mistake)

    return Caller(name=f"the Pod {name} on {node}", node=node, ask=ask, look=_look(stage, node))


def _look(stage: Stage, node: str) -> Journal | None:
    """The journal of whoever redirects what a node and its Pods send, if it is ours."""
    return next((Journal(host, kube_proxy.COMPONENT.unit) for host in stage.inventory.on("worker") if host.name == node), None)


def _echo(stage: Stage, of: Fleet, node: str, *, backend: bool) -> str:
    """A Pod that says its name, at the first port of netexec."""
    ready = pods.http_get(pods.NETEXEC, "/readyz")
    container = pods.container(stage, "echo", "netexec", ports=[{"containerPort": pods.NETEXEC}], readinessProbe=ready)
    labels = of.selector if backend else {}
    return pods.make(stage, "echo", container, node=node, labels=labels, subdomain=of.name)
