"""A worker leaves its cluster: its Pods, its host, its Node, its range and its certificates, each only if the one before is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from hardway import pod_ranges
from hardway.components.node import NODES, condition
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.leaving import drain, reset
from hardway.pki import kept
from hardway.pki.pair import Pair
from hardway.remote.cluster import Cluster
from hardway.state import State

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """How a worker leaves."""

    name: str
    within: float  # seconds for its Pods
    force: bool  # also Pods that are lost, or lose data
    keep_host: bool  # it cannot be reached


def remove(cluster: Cluster, state: State, leaving: Leaving, tell: Tell) -> datetime | None:
    """Let it go; until when what it had as a key is good for the cluster. Run again, it goes on where it was."""
    name = leaving.name
    host = _host(cluster, state, leaving)
    found = None if leaving.keep_host or host is None else reset.survey(cluster, (host,))
    if found and found.silent:
        step = "bring it back, or add --keep-host to leave it as it is"
        raise Mistake(*(replace(finding, next_step=step) for finding in found.silent))
    # What would stop it later is asked before anything changes.
    if not leaving.force:
        drain.refuse_losses(drain.movable(cluster, name))
    if drain.cordon(cluster, name):
        tell(f"{name}: cordoned")
        drain.drain(cluster, name, within=leaving.within, tell=tell, ends=_reports(cluster, name), force=leaving.force)
    if found:  # before its Node: a kubelet that runs would make another
        reset.reset(cluster, found, tell)
    answer = cluster.request("DELETE", f"{NODES}/{name}")
    if answer.status not in {200, 404}:
        raise Mistake.at(f"node/{name}", f"the API server answers {answer.status} to its deletion", "run it again: it goes on")
    tell(f"{name}: its Node is gone")
    return forget(state, name, tell)


def forget(state: State, name: str, tell: Tell) -> datetime | None:
    """Free its range and drop its certificates; until when the last of them is good."""
    files = state.glob(f"pki/*/*@{name}.pem")
    pairs = [pair for file in files if isinstance(pair := kept.pair(state, file), Pair)]
    with state.locked():
        for file in files:
            state.remove(file)
        ranges = dict(pod_ranges.kept(state))
        if freed := ranges.pop(name, None):
            pod_ranges.keep(state, ranges)
    if files or freed:
        tell(f"{name}: {len(files)} certificates removed from {state.root}" + (f", {freed} is free again" if freed else ""))
    return max((pair.certificate.not_valid_after_utc for pair in pairs), default=None)


def _host(cluster: Cluster, state: State, leaving: Leaving) -> Host | None:
    """Its host, if the inventory has it; a Mistake if it cannot leave this way."""
    name = leaving.name
    host = next((one for one in cluster.inventory.hosts if one.name == name), None)
    workers = ", ".join(one.name for one in cluster.inventory.on("worker"))
    if host is None:
        known = name in pod_ranges.kept(state) or cluster.api(f"{NODES}/{name}").status == 200
        if not known:
            raise Mistake.at(name, "is no worker of this cluster", f"its workers are {workers or 'none'}")
        if not leaving.keep_host:
            what = "it has left the inventory, so nobody here knows how its host is reached"
            raise Mistake.at(name, what, "put it back until it is removed, or add --keep-host to leave its host as it is")
    elif host.roles != {"worker"}:
        if "worker" not in host.roles:
            raise Mistake.at(name, "is no worker", f"the workers are {workers or 'none'}")
        others = " and ".join(sorted(host.roles - {"worker"}))
        raise Mistake.at(name, f"is {others} too, and a host leaves as a whole", "only a host that is a worker alone can be removed")
    return host


def _reports(cluster: Cluster, name: str) -> bool:
    """Whether a kubelet is there that ends Pods."""
    answer = cluster.api(f"{NODES}/{name}")
    return answer.status == 200 and condition(answer.json(), "Ready", "no word of it")["status"] != "Unknown"
