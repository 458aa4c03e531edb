"""state/ built anew from what the hosts carry: what each file there gives back, and what is on no host and so is lost."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Network
from pathlib import Path, PurePosixPath

from hardway import pod_ranges
from hardway.desired import Answer
from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.keeping.authorities import Recovered, authorities
from hardway.keeping.reading import ENCRYPTION, RANGE, ROUTES, Read, on, same
from hardway.pki import kept
from hardway.pki.declared import Declarations
from hardway.pki.pair import Pair, UnreadableError, leaf, private_key, private_pem, public_pem
from hardway.pki.request import Request, requests
from hardway.pki.trust import age
from hardway.state import State

_KEY = re.compile(r"-\s+name:\s*(key-[0-9]{4}[a-z]+)\n\s+secret:\s*([A-Za-z0-9+/=]+)\s*$", re.MULTILINE)
_ROUTE = re.compile(r"^([0-9./]+) via ([0-9.]+)$", re.MULTILINE)
_SUBNET = re.compile(r'"subnet":\s*"([0-9./]+)"')
# etcd knows no users: whichever certificate of its authority a client shows, it may do all.
AS_GOOD = {"etcd": "etcdctl"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the hosts give back."""

    files: Mapping[str, bytes] = field(repr=False)  # by their names in state/
    ranges: pod_ranges.Ranges
    lost: tuple[str, ...]  # each with what follows, and the next step


def recovered(declarations: Declarations, inventory: Inventory, read: Read, now: datetime) -> Found:
    """All of state/ that can be known of what was read; a Mistake where hosts disagree."""
    if not any(read.values()):
        raise Mistake.at("", "no host carries anything of this kit", "name the inventory of a cluster that was pushed, or push this one")
    found = authorities(declarations, inventory, read)
    files = {generation.file: _whole(pair) for one in found.values() for generation, pair in one.generations.items()}
    lost = [*_keyless(found)]
    pairs: dict[str, Pair] = {}
    for request in requests(declarations, inventory):
        if request.host is None or request.authority not in found:
            continue
        path = declarations_path(declarations, request)
        pair = _leaf(read[request.host].get(path), found[request.authority])
        if isinstance(pair, Pair):
            pairs[request.file] = pair
        else:
            lost.append(f"{request.host}:{path}: {pair}; it is issued again as soon as the key of authority {request.authority} is there")
    for request in requests(declarations, inventory):
        if request.host is None and request.authority in found and not found[request.authority].signer.key:
            stand_in, told = _stand_in(declarations, request, found, pairs, now)
            pairs |= {request.file: stand_in} if stand_in else {}
            lost.append(told)
    files |= {file: pair.pem for file, pair in pairs.items()}
    began = min((generation.not_before for one in found.values() for generation in one.generations), default=now)
    for keys, gone in (_key_pairs(declarations, inventory, read, began), _encryption(declarations, read)):
        files |= keys
        lost += gone
    return Found(files=files, ranges=_ranges(inventory, read), lost=tuple(lost))


def refuse_if_there(state: State) -> None:
    """What is there may hold more than the hosts can give back."""
    if state.glob("pki/**/*"):
        step = "if it is of no use, move it away; `./inv state.restore` puts a backup in its place"
        raise Mistake.at(str(state.path("pki")), "there are keys and certificates already", step)


def keep(state: State, found: Found, nodes: Callable[[State], pod_ranges.Ranges] = lambda _: {}) -> pod_ranges.Ranges:
    """Write it down: all of the PKI takes its place at once. `nodes` asks the cluster, with what was recovered, for its Nodes' ranges."""
    with state.locked():
        refuse_if_there(state)
        with tempfile.TemporaryDirectory(dir=state.root, prefix=".recover-") as directory:
            fresh = State(Path(directory))
            for name, data in found.files.items():
                fresh.write(name, data)
            said = nodes(fresh)
            for name in said.keys() & found.ranges.keys():
                same(f"the Pod range of {name}", {"its Node": said[name], "the hosts": found.ranges[name]})
            ranges = {**pod_ranges.kept(state), **said, **found.ranges}
            pod_ranges.keep(state, ranges)
            fresh.path("pki").rename(state.path("pki"))
    return ranges


def unranged(inventory: Inventory, ranges: pod_ranges.Ranges) -> tuple[str, ...]:
    """Whose share of the Pods' network is lost."""
    return tuple(
        f"the Pod range of {host.name}: neither hosts nor Nodes name it; write what it had into {pod_ranges.FILE} before you push"
        for host in inventory.on("worker")
        if host.name not in ranges
    )


def of_nodes(nodes: Answer) -> pod_ranges.Ranges:
    """The ranges that Nodes have, also those whose worker is in the inventory no more."""
    if nodes.status != 200:
        raise Mistake.at("", f"the API server answers {nodes.status} to a question for Nodes")
    cidrs = {item["metadata"]["name"]: item["spec"].get("podCIDR", "") for item in nodes.json()["items"]}
    return {name: IPv4Network(cidr) for name, cidr in cidrs.items() if cidr and ":" not in cidr}


def declarations_path(declarations: Declarations, request: Request) -> PurePosixPath:
    """Where a host's certificate lies."""
    paths = {name: one.path for authority in declarations.authorities for name, one in authority.certificates.items()}
    path = paths[request.certificate]
    if path is None:
        raise AssertionError(request.certificate)  # only the operator's has none
    return path


def _keyless(found: Mapping[str, Recovered]) -> Iterator[str]:
    for name, one in found.items():
        for generation, pair in one.generations.items():
            if pair.key is None:
                yield (
                    f"the key of authority {name} ({generation.common_name}), which is on no host: what it signs can be neither issued nor"
                    f" renewed; bring {kept.apart(generation.file)} back from wherever a copy is, or `./inv rotate.authority {name}`"
                )


def _whole(pair: Pair) -> bytes:
    return pair.bundle.encode() + (private_pem(pair.key) if pair.key else b"")


def _leaf(text: str | None, authority: Recovered) -> Pair | str:
    """A host's certificate with its key, or why it cannot be used."""
    if text is None:
        return "it is not there, or not of this kit"
    try:
        pair = Pair.parse(text.encode())
    except UnreadableError as unreadable:
        return str(unreadable)
    if pair.key is None:
        return "its key is missing"
    return pair if any(one.signed(pair) for one in authority.generations.values()) else f"{pair.issuer} signed it, whom no host trusts"


def _stand_in(
    declarations: Declarations, request: Request, found: Mapping[str, Recovered], pairs: Mapping[str, Pair], now: datetime
) -> tuple[Pair | None, str]:
    """What the operator may show as long as his own certificate cannot be issued, and how that is told."""
    told = f"the operator's {request.certificate}, which is on no host"
    until = f"; in its place, until the key of authority {request.authority} is back"
    if as_good := AS_GOOD.get(request.authority):
        for file, pair in pairs.items():
            if file.startswith(f"pki/{request.authority}/{as_good}@"):
                return pair, f"{told}{until}: {as_good} of {file.rpartition('@')[2].removesuffix('.pem')}, good until {_end(pair)}"
    trusted = {one.authority: {place.path for place in one.trusted_in} for one in declarations.authorities}
    for name, other in found.items():
        if name != request.authority and other.signer.key and trusted[name] & trusted[request.authority]:
            pair = leaf(request, other.signer, now=now)
            return pair, f"{told}{until}: one that {name} has signed, good until {_end(pair)}"
    return None, f"{told}: plan and push cannot ask the cluster; bring the key of authority {request.authority} back, and push"


def _end(pair: Pair) -> str:
    return f"{pair.certificate.not_valid_after_utc:%Y-%m-%d}"


def _key_pairs(declarations: Declarations, inventory: Inventory, read: Read, began: datetime) -> tuple[dict[str, bytes], list[str]]:
    """The keys that sign, which their daemons read; of older ones the hosts have the public half alone."""
    files: dict[str, bytes] = {}
    lost = []
    for one in declarations.key_pairs:
        private = same(f"key pair {one.key_pair}", on(inventory, read, one.private_in))
        if private is None:
            lost.append(
                f"key pair {one.key_pair}: no host has it; tokens that it signed cannot be verified any more: a new one has to be made"
            )
            continue
        try:
            key = private_key(private.encode())
        except UnreadableError as unreadable:
            raise Mistake.at(f"key pair {one.key_pair}", f"what the hosts have of it is damaged: {unreadable}") from None
        files[f"pki/{one.key_pair}/key-{kept.next_name((), began)}.pem"] = private_pem(key)
        public = same(f"the public keys of {one.key_pair}", on(inventory, read, one.public_in))
        others = (public or "").replace(public_pem(key).decode(), "").count("-----BEGIN")
        if others:
            what = f"key pair {one.key_pair}: {others} private keys beside the one that signs"
            lost.append(f"{what}; a push takes their public halves away, and what they signed is void")
    return files, lost


def _encryption(declarations: Declarations, read: Read) -> tuple[dict[str, bytes], list[str]]:
    """The keys of encryption at rest, as the API servers read them."""
    if declarations.encryption is None:
        return {}, []
    texts = {f"{host}:{ENCRYPTION}": files[ENCRYPTION] for host, files in read.items() if ENCRYPTION in files}
    keys = same("the keys of encryption at rest", {where: tuple(_KEY.findall(text)) for where, text in texts.items()})
    if not keys:
        return {}, [
            "the keys of encryption at rest: no host has them; what they encrypted in etcd, such as Secrets, cannot be read any more"
        ]
    writes = age(keys[0][0].removeprefix("key-"))
    later = {name for name, _ in keys if age(name.removeprefix("key-")) > writes}  # as a replacement under way has left them
    names = [name.replace("key-", "next-") if name in later else name for name, _ in keys]
    return {f"pki/encryption/{name}": secret.encode() for name, (_, secret) in zip(names, keys, strict=True)}, []


def _ranges(inventory: Inventory, read: Read) -> dict[str, IPv4Network]:
    """Each worker's share, as its own files and the routes of all others have it."""
    names = {str(host.address): host.name for host in inventory.on("worker")}
    said: dict[str, dict[str, str]] = {}
    for host, files in read.items():
        for pod_range, address in _ROUTE.findall(files.get(ROUTES, "")):
            said.setdefault(names.get(address, ""), {})[f"{host}:{ROUTES}"] = pod_range
        for pod_range in _SUBNET.findall(files.get(RANGE, "")):
            said.setdefault(host, {})[f"{host}:{RANGE}"] = pod_range
    agreed = {name: same(f"the Pod range of {name}", by) for name, by in said.items() if name in names.values()}
    return {name: IPv4Network(text) for name, text in agreed.items() if text}
