"""What is read of hosts to recover state/: the kit's own files, secrets among them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.pki.declared import Declarations, Place
from hardway.remote.fanout import Failure, attempt
from hardway.remote.machine import Machine

ENCRYPTION = PurePosixPath("/etc/kubernetes/kube-apiserver/encryption.yaml")
ROUTES = PurePosixPath("/etc/kubernetes/pod-network/routes.sh")
RANGE = PurePosixPath("/etc/cni/net.d/10-bridge.conflist")
AT_ONCE = 16  # hosts

Read = Mapping[str, Mapping[PurePosixPath, str]]  # by host and path

T = TypeVar("T")


def ask(inventory: Inventory, declarations: Declarations, machines: Mapping[str, Machine]) -> Read:
    """Every host's files of the PKI, as far as the kit has put them there. Nothing is written."""
    answers = attempt(inventory.hosts, lambda host: _files(machines[host.name], paths(declarations, inventory, host)), AT_ONCE)
    if failed := [finding for answer in answers.values() if isinstance(answer, Failure) for finding in answer.error.findings]:
        step = (
            "make it answer (`./inv hosts.trust` records its key), or take it out of the inventory for now: what it alone has is lost then"
        )
        raise Mistake(*(Finding(where=one.where, what=one.what, next_step=one.next_step or step) for one in failed))
    return {host.name: answer for host, answer in answers.items() if not isinstance(answer, Failure)}


def on(inventory: Inventory, read: Read, places: Iterable[Place]) -> dict[str, str]:
    """The texts at some places, by where they are."""
    found = ((host.name, place.path) for place in places for host in inventory.on(place.role))
    return {f"{host}:{path}": read[host][path] for host, path in found if path in read[host]}


def same(what: str, said: Mapping[str, T]) -> T | None:
    """What all of them say; None if nobody says anything; a Mistake if they do not agree."""
    by: dict[T, list[str]] = {}
    for where, value in said.items():
        by.setdefault(value, []).append(where)
    if len(by) > 1:
        groups = " against ".join(", ".join(sorted(wheres)) for wheres in sorted(by.values(), key=len))
        step = "finish there what was begun, or take the hosts that are wrong out of the inventory for now"
        raise Mistake.at(what, f"the hosts disagree: {groups}", step)
    return next(iter(by), None)


def _files(machine: Machine, paths: frozenset[PurePosixPath]) -> Mapping[PurePosixPath, str]:
    managed = machine.observe(frozenset()).managed
    return machine.read(paths & managed) if paths & managed else {}


def paths(declarations: Declarations, inventory: Inventory, host: Host) -> frozenset[PurePosixPath]:
    """What of a host's files is in state/ too, as far as it has them."""
    authorities = declarations.wanted(inventory)
    places = [place for one in authorities for place in (*one.trusted_in, *one.signs_in)]
    places += [place for pair in declarations.key_pairs for place in (*pair.private_in, *pair.public_in)]
    paths = {place.path for place in places if place.role in host.roles}
    paths |= {one.path for authority in authorities for one in authority.certificates.values() if one.role in host.roles and one.path}
    return frozenset(paths | {ENCRYPTION, ROUTES, RANGE})
