"""What the kit puts into the cluster: compared by the API server's own dry run, applied, and taken away again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hardway import render
from hardway.components import ALL
from hardway.components.node import NODES
from hardway.desired import Answer, Manifest
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.plan import LEFTOVERS, Change, compare_object
from hardway.push.admission import SECRETS
from hardway.remote.cluster import Cluster

UNKNOWN = "no API server answers"
AT_ONCE = 8  # questions to the API


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What differs in the cluster, and what is there that a push leaves alone."""

    changes: tuple[Change, ...]
    departed: tuple[Finding, ...] = ()  # Nodes of ours whose worker is in the inventory no more (13)

    def among(self, hosts: Sequence[Host], inventory: Inventory) -> Found:
        """What goes along with some hosts: all but the others' Nodes where every controller is one of them, else their own Nodes alone."""
        if set(inventory.on("controller")) <= set(hosts):
            names = {host.name for host in inventory.hosts} - {host.name for host in hosts}
            return replace(self, changes=tuple(one for one in self.changes if _node_of(one) not in names))
        names = {host.name for host in hosts}
        return Found(changes=tuple(one for one in self.changes if _node_of(one) in names))


def survey(cluster: Cluster) -> Found:
    """Ask about every object of ours; all of them differ if no server answers yet."""
    wanted = [(component.name, manifest) for component in ALL for manifest in render.manifests(component, cluster.inventory)]
    try:
        collections = [NODES, *(manifest.collection for _, manifest in wanted)]
        if any(component.own(cluster.inventory) for component in ALL):
            collections.append(SECRETS)  # tokens of a push that was cut short
        there = _ours(cluster, collections)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            compared = list(pool.map(lambda one: _compared(cluster, one[0], one[1], there.get(one[1].name)), wanted))
    except Unanswered as unanswered:
        compared = [compare_object(component, manifest, None, None, str(unanswered)) for component, manifest in wanted]
        there = {}
    wanted_names = {manifest.name for _, manifest in wanted}
    unwanted = [Manifest(object=found) for name, found in there.items() if name not in wanted_names]
    why = "no component puts it there any more"
    gone = [
        Change(component=LEFTOVERS, action="delete", what=manifest.name, why=why, manifest=manifest)
        for manifest in unwanted
        if not _is_node(manifest)
    ]
    return Found(
        changes=(*(change for change in compared if change), *gone),
        departed=tuple(_departed(manifest) for manifest in unwanted if _is_node(manifest)),
    )


def _node_of(change: Change) -> str:
    """The host whose Node an object is."""
    return str(change.manifest.object["metadata"]["name"]) if change.manifest and _is_node(change.manifest) else ""


def _is_node(manifest: Manifest) -> bool:
    return bool(manifest.object["kind"] == "Node")


def _departed(node: Manifest) -> Finding:
    """A worker leaves by a verb of its own (13)."""
    name = node.object["metadata"]["name"]
    what, step = "is no worker of the inventory, and is left alone", "put it back into the inventory, or let it go by `./inv worker.remove"
    return Finding(where=node.name, what=what, next_step=f"{step} {name}`", warning=True)


def put(cluster: Cluster, changes: Sequence[Change], tell: Callable[[str], None]) -> None:
    """Do it, through a controller that has just passed its gates; as system:masters where the administrator has no rights yet."""
    host = cluster.inventory.on("controller")[0]
    for change in changes:
        if change.manifest is None:
            continue
        if change.action == "delete":
            answer = cluster.request("DELETE", change.manifest.path, host=host)
            if answer.status == 404:  # somebody was faster
                continue
        else:
            answer = cluster.apply(change.manifest, dry_run=False, host=host)
            if answer.status == 403:
                answer = cluster.apply(change.manifest, dry_run=False, host=host, masters=True)
        _accepted(change.manifest, answer)
        tell(f"{change.manifest.name}: {change.action}")


class Unanswered(Exception):  # noqa: N818 - a state of the cluster, caught here
    """Nobody can say what is there: no server answers, or none lets us look."""


def _ours(cluster: Cluster, collections: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Every object that carries our label, of the kinds that we put there, by its name as kubectl writes it."""
    found: dict[str, Mapping[str, Any]] = {}
    asks = [partial(cluster.api, f"{one}?labelSelector={render.LABEL}%3D{render.OWNER}") for one in dict.fromkeys(collections)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(_asked, asks))
    for answer in answers:
        listed = answer.json()
        for item in listed["items"]:
            # A list says kind and version once, for all of its items.
            one = {"apiVersion": listed["apiVersion"], "kind": listed["kind"].removesuffix("List"), **item}
            found[Manifest(object=one).name] = one
    return found


def _compared(cluster: Cluster, component: str, manifest: Manifest, live: Mapping[str, Any] | None) -> Change | None:
    if live is None:  # it may be there without our label
        answer = _asked(partial(cluster.api, manifest.path), 404)
        live = answer.json() if answer.status == 200 else None
    wanted = _asked(partial(cluster.apply, manifest, dry_run=True), 201, 400, 409, 422)
    _accepted(manifest, wanted)
    return compare_object(component, manifest, live, wanted.json())


def _asked(ask: Callable[[], Answer], *also: int) -> Answer:
    try:
        answer = ask()
    except Mistake:
        raise Unanswered(UNKNOWN) from None
    if answer.status not in {200, *also}:
        raise Unanswered(f"the API server answers {answer.status} to us")
    return answer


def _accepted(manifest: Manifest, answer: Answer) -> None:
    if answer.status not in {200, 201}:
        said = answer.json()
        message = said.get("message", said) if isinstance(said, dict) else said
        raise Mistake.at(manifest.name, f"the API server refuses it: {message}")
