"""Where every certificate, key and bundle is: in state/, on the hosts, on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from hardway import render
from hardway.components import ALL, installed
from hardway.desired import Blob, Serving, Shown, Template
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Asked, Observed
from hardway.pki.declared import Declarations
from hardway.pki.register import Item, as_found, embedded, own_item, register
from hardway.plan import digest
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import Failure, attempt
from hardway.state import State

AT_ONCE = 16  # hosts
KUBECONFIG = "templates/kubeconfig.yaml"

OnHost = Literal["", "same", "differs", "there", "missing", "not asked"]  # there: state/ has none to compare with


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What a port has shown."""

    serving: Serving
    shown: Shown | None = None
    why: str = ""  # nothing was seen there


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One item, where it should be."""

    item: Item
    on_host: OnHost = ""
    wire: Wire | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What one host carries and serves."""

    observed: Observed
    own: frozenset[PurePosixPath]  # what daemons have asked for themselves
    wanted: Mapping[PurePosixPath, str]  # digests
    wires: Mapping[str, Wire]  # by certificate


def items(declarations: Declarations, inventory: Inventory, state: State, kubeconfig: str, now: datetime) -> tuple[Item, ...]:
    """Everything that there is to look at; `kubeconfig` is the operator's own, in state/."""
    kept = (*register(declarations, inventory, state, now), *_own(inventory))
    admin = next((one for one in kept if one.name == "admin"), None)
    return (*kept, *_configured(inventory, kept), *((embedded(state, kubeconfig, admin),) if admin else ()))


def _own(inventory: Inventory) -> Iterator[Item]:
    """What daemons ask for themselves."""
    for component in ALL:
        if own := component.own(inventory):
            yield from (own_item(component.name, own, host) for host in component.hosts(inventory))


def _configured(inventory: Inventory, kept: Sequence[Item]) -> Iterator[Item]:
    """What components write themselves: kubeconfigs, which name certificates, and files that hold a key."""
    by_path = {(one.host, one.path): one for one in kept}
    for component in ALL:
        for host in component.hosts(inventory):
            for draft in component.files(inventory, host, render.ANY):
                if not isinstance(draft.content, Template):
                    continue
                one = Item(kind="key", name="encryption", host=host.name, path=draft.path, uses=draft.uses, note="inside its configuration")
                if draft.content.source == KUBECONFIG:
                    path = PurePosixPath(str(draft.content.values["client"]))
                    yield _kubeconfig(replace(one, kind="kubeconfig", name=component.name), path, by_path.get((host.name, path)))
                elif draft.content.secret:
                    yield one


def _kubeconfig(one: Item, path: PurePosixPath, client: Item | None) -> Item:
    """It ends with the certificate that it names."""
    if client is None:
        return replace(one, note=f"names {path}")
    return replace(one, note=f"names {path}", authority=client.authority, subject=client.subject, not_after=client.not_after)


def look(cluster: Cluster, wanted: Sequence[Item], hosts: Sequence[Host]) -> tuple[tuple[Seen, ...], Mapping[str, str]]:
    """Ask hosts for their files and their ports; why not, by host, for those that did not answer."""
    paths = {host.name: frozenset(one.path for one in wanted if one.host == host.name and one.path) for host in hosts}
    found = attempt(hosts, lambda host: _ask(cluster, host, paths[host.name]), AT_ONCE)
    answers = {host.name: answer for host, answer in found.items() if not isinstance(answer, Failure)}
    silent = {
        host.name: "; ".join(finding.what for finding in answer.error.findings)
        for host, answer in found.items()
        if isinstance(answer, Failure)
    }
    return tuple(_seen(one, answers) for one in wanted), silent


def _ask(cluster: Cluster, host: Host, paths: frozenset[PurePosixPath]) -> _Answer:
    own = frozenset(one.path for component in installed(cluster.inventory, host) if (one := component.own(cluster.inventory)))
    observed = cluster.machine(host).observe(paths - own, (), Asked(certificates=tuple(own)))
    programs = {name: Blob(sha256="", size=0, local=Path()) for component in ALL for name in component.programs}
    parts = render.parts(cluster.inventory, host, observed.facts, cluster.credentials, programs)
    servings = [serving for component in installed(cluster.inventory, host) for serving in component.serves]
    with ThreadPoolExecutor(max_workers=max(1, len(servings))) as pool:
        wires = list(pool.map(lambda serving: _wire(cluster, host, serving), servings))
    return _Answer(
        observed=observed,
        own=own,
        wanted={file.path: digest(file.content) for part in parts for file in part.files},
        wires={wire.serving.certificate: wire for wire in wires},
    )


def _wire(cluster: Cluster, host: Host, serving: Serving) -> Wire:
    try:
        return Wire(serving=serving, shown=cluster.shown(host, serving.port, loopback=serving.loopback))
    except Mistake as mistake:
        return Wire(serving=serving, why="; ".join(finding.what for finding in mistake.findings))


def _seen(item: Item, answers: Mapping[str, _Answer]) -> Seen:
    if item.host is None or item.path is None:
        return Seen(item=item)
    answer = answers.get(item.host)
    if answer is None:
        return Seen(item=item, on_host="not asked")
    if item.path in answer.own:
        der = answer.observed.certificates.get(item.path)
        return Seen(item=as_found(item, der), on_host="there" if der else "missing")
    there = answer.observed.files.get(item.path)
    on_host: OnHost = "missing" if there is None else "same" if there.sha256 == answer.wanted.get(item.path) else "differs"
    return Seen(item=item, on_host=on_host, wire=answer.wires.get(item.name) if item.kind == "certificate" else None)


def unasked(wanted: Sequence[Item]) -> tuple[Seen, ...]:
    """What can be said where no host was asked."""
    return tuple(Seen(item=one, on_host="not asked" if one.path and one.host else "") for one in wanted)


def here(hosts: Iterable[Host], why: str) -> Mapping[str, str]:
    """Hosts, with the one reason why none was asked."""
    return {host.name: why for host in hosts}
