"""Whether a generation is believed everywhere, or nowhere any more: seen where it shows, never assumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import PurePosixPath

from hardway.components import kube_apiserver
from hardway.desired import Pickup, Secret
from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.pki.declared import Authority
from hardway.proof import NOBODY
from hardway.remote.cluster import Cluster
from hardway.rotate.asking import got
from hardway.rotate.doors import PROBE, Door, doors, seen_as
from hardway.waiting import Ask, answer, told, until

Tell = Callable[[str], None]

PAUSE = 1.0  # seconds between two rounds of questions
TOLD = 60.0  # seconds between two lines about what is waited for
SLACK = 60.0  # seconds beyond what readers take by themselves, on a machine that is busy
SYNC = 120.0  # seconds until a kubelet has brought a ConfigMap that changed into its Pods
ROOT_CAS = "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt"

# A client looks at the file with its first request after five minutes (client-go, transport/ca_rotation.go): once the file has lain there
# for that long, or the process is younger than it, no request goes by the old one any more.
AGE = """
changed=$(stat -L -c %Z -- "$1") now=$(date +%s)
began=$(date -d "$(systemctl show --property=ExecMainStartTimestamp --value "$2")" +%s)
if [ "$began" -gt "$changed" ]; then echo "$3"; else echo "$((now - changed))"; fi
"""
# The same for the bundles in Pods, which kubelet brings there: which differ, and how old the youngest is.
PODS = """
for place in /var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/kube-api-access-*/; do
  [ -h "${place}ca.crt" ] || continue
  file=${place}..data/ca.crt
  sum=$(sha256sum <"$file") pod=${file#/var/lib/kubelet/pods/}
  [ "${sum%% *}" = "$1" ] || { echo "differs ${pod%%/*}"; continue; }
  echo "$(($(date +%s) - $(stat -L -c %Z -- "$file")))"
done
"""


def everywhere(cluster: Cluster, authority: Authority, probe: Secret, tell: Tell) -> float:
    """Wait until who shows the new generation is known at every door, and no request goes by an old bundle; the seconds that it took."""
    questions: dict[str, Ask] = {str(door): partial(_known, cluster, door, probe) for door in doors(authority, cluster.inventory)}
    questions |= dict(_polled(cluster, authority))
    if authority.authority == "kubernetes":
        questions |= _in_pods(cluster)
    return until_all(questions, within=Pickup.POLL.within + SYNC + SLACK, tell=tell)


def nowhere(cluster: Cluster, authority: Authority, probe: Secret, tell: Tell) -> float:
    """Wait until who shows an old generation is nobody at every door."""
    questions = {str(door): partial(_unknown, cluster, door, probe) for door in doors(authority, cluster.inventory)}
    return until_all(questions, within=SLACK, tell=tell)


def _known(cluster: Cluster, door: Door, probe: Secret) -> str | None:
    who = seen_as(cluster, door, probe)
    return None if who == PROBE else f"to it, the new one is {who}"


def _unknown(cluster: Cluster, door: Door, probe: Secret) -> str | None:
    who = seen_as(cluster, door, probe)
    return None if who.startswith(NOBODY) else f"to it, the old one is {who}"


def _polled(cluster: Cluster, authority: Authority) -> Iterator[tuple[str, Ask]]:
    for place in authority.trusted_in:
        for reader, pickup in place.read_by.items():
            if pickup is Pickup.POLL:
                for host in cluster.inventory.on(place.role):
                    name = f"{reader.removesuffix('.service')} on {host.name} ({place.path.name})"  # a door may have the shorter one
                    yield name, partial(_read_again, cluster, host, place.path, reader)


def _read_again(cluster: Cluster, host: Host, path: PurePosixPath, unit: str) -> str | None:
    enough = int(Pickup.POLL.within) + 1
    age = int(cluster.run(host, "sh", "-c", AGE, "sh", str(path), unit, str(enough)))
    if age < enough:
        return f"it looks at {path} every five minutes, and that has lain there for {age} s"
    return _reaches_a_kubelet(cluster, host) if unit == kube_apiserver.COMPONENT.unit else None


def _reaches_a_kubelet(cluster: Cluster, host: Host) -> str | None:
    """An API server looks when it passes an ordinary request on to a kubelet, not for an `exec`: so it is given one."""
    nodes = cluster.inventory.on("worker")
    status = cluster.api(f"/api/v1/nodes/{nodes[0].name}/proxy/healthz", host=host).status if nodes else 200
    return None if status == 200 else f"what it passes on to the kubelet of {nodes[0].name} is answered with {status}"


def _in_pods(cluster: Cluster) -> dict[str, Ask]:
    wanted = cluster.credentials.trusts["kubernetes"].bundle
    found: dict[str, Ask] = {"kube-root-ca.crt": partial(_root_cas, cluster, wanted)}
    for host in cluster.inventory.on("worker"):
        found[f"Pods on {host.name}"] = partial(_pods, cluster, host, wanted)
    return found


def _root_cas(cluster: Cluster, wanted: str) -> str | None:
    differ = [one["metadata"]["namespace"] for one in got(cluster, ROOT_CAS)["items"] if one["data"].get("ca.crt") != wanted]
    return f"it is not the new bundle yet in {', '.join(differ)}" if differ else None


def _pods(cluster: Cluster, host: Host, wanted: str) -> str | None:
    enough = int(Pickup.POLL.within) + 1
    lines = cluster.run(host, "sh", "-ec", PODS, "sh", sha256(wanted.encode()).hexdigest()).splitlines()
    differ = [line.partition(" ")[2] for line in lines if line.startswith("differs")]
    if differ:
        return f"{len(differ)} have not got the new bundle yet, such as {differ[0]}"
    youngest = min((int(line) for line in lines), default=enough)
    return None if youngest >= enough else f"their clients look at it every five minutes, and it has lain there for {youngest} s"


def until_all(questions: Mapping[str, Ask], *, within: float, tell: Tell) -> float:
    """Ask until every answer is None; the seconds that it took. A Mistake with all the last answers if they are not in time."""
    began = time.monotonic()
    closed: dict[str, str] = dict.fromkeys(questions, "")

    def first() -> str | None:
        nonlocal closed
        closed = {name: why for name in closed if (why := answer(questions[name]))}
        return ": ".join(next(iter(closed.items()))) if closed else None

    waited = told(first, lambda why: tell(f"waiting for {len(closed)} of {len(questions)} readers; {why}"), every=TOLD)
    late = until(waited, within=within, pause=PAUSE)
    spent = time.monotonic() - began
    if late:
        raise Mistake(*(Finding(where=name, what=f"after {spent:.0f} s: {why}") for name, why in closed.items()))
    return spent
