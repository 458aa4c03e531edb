"""etcd: one consistent cluster, reached by TLS on its two ports, with Secrets that cannot be read in it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hardway.components import etcd
from hardway.desired import Check, Stage
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.smoke.config_map import config_map
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, expecting, require

UNIT = etcd.COMPONENT.unit
PREFIX = "/hardway/smoke/"  # beside what Kubernetes keeps under /registry/
LEASE = 60  # seconds after which etcd itself removes what a killed run has written
GAP = 1000  # entries that a member may be behind the one that was asked first
ENCRYPTED = b"k8s:enc:secretbox:v1:"


def quorum(stage: Stage) -> str:
    """Ask each member for its health and its view of the cluster, then write through each and read through the others."""
    hosts = stage.inventory.on("controller")
    seen = {}
    evidence = []
    for host in hosts:
        look = Journal(host, UNIT)
        with expecting(f"the member on {host.name} to be healthy", look):
            unhealthy = etcd.member_healthy(stage, host)
            if unhealthy is None:
                seen[host] = etcd.status(stage, host)
        if unhealthy:
            raise Failed(f"the member on {host.name} to be healthy", unhealthy, look)
        one = seen[host]
        role = "leads" if one.leader == one.member else "follows"
        evidence.append(f"{host.name} /health, /v3/maintenance/status: healthy, {role} in term {one.term} at index {one.index}, no alarm")
    leaders, terms, indexes = ({getattr(one, what) for one in seen.values()} for what in ("leader", "term", "index"))
    if len(leaders) > 1 or not leaders & {one.member for one in seen.values()}:
        raise Failed("all members to follow one of them", ", ".join(f"{host.name} follows {one.leader:x}" for host, one in seen.items()))
    if len(terms) > 1:
        raise Failed("one raft term", ", ".join(f"{host.name} is in {one.term}" for host, one in seen.items()))
    if max(indexes) - min(indexes) > GAP:
        raise Failed(f"members at most {GAP} entries apart", ", ".join(f"{host.name} is at {one.index}" for host, one in seen.items()))
    names = tuple(sorted(host.name for host in hosts))
    for host in hosts:
        if (listed := etcd.members(stage, host)) != names:
            raise Failed(f"the members {', '.join(names)}", f"{host.name} lists {', '.join(listed)}", Journal(host, UNIT))
    return "\n".join((*evidence, *_read_elsewhere(stage, hosts)))


def _read_elsewhere(stage: Stage, hosts: tuple[Host, ...]) -> Iterator[str]:
    """Write through each member, read linearizably through the others."""
    with _leased(stage, hosts[0]) as lease:
        for writer in hosts:
            key, word = f"{PREFIX}{secrets.token_hex(6)}", secrets.token_bytes(12).hex().encode()
            with expecting(f"a write through {writer.name}", Journal(writer, UNIT)):
                _post(stage, writer, "/v3/kv/put", {"key": _base64(key.encode()), "value": _base64(word), "lease": lease})
            others = [host for host in hosts if host != writer]
            for reader in others:
                with expecting(f"a linearizable read through {reader.name}", Journal(reader, UNIT)):
                    found = etcd.value(stage, reader, key)
                if found != word:
                    raise Failed(f"{reader.name} to read what {writer.name} has written", repr(found), Journal(reader, UNIT))
            if others:
                yield f"{key}: put through {writer.name}, the same by range through {', '.join(host.name for host in others)}"


def keys(stage: Stage) -> str:
    """List the keys as a person would on a controller, and find among them one that was just made."""
    name = unique("keys")
    config_map(stage, name)
    pair = "/etc/etcd/pki/etcdctl.pem"  # certificate and key in one file
    argv = ["etcdctl", f"--endpoints={etcd.servers(stage.inventory)}", "--cacert=/etc/etcd/pki/ca.crt", f"--cert={pair}", f"--key={pair}"]
    argv += ["get", "/", "--prefix", "--keys-only"]
    wanted = f"/registry/configmaps/{stage.namespace}/{name}"
    counts = []
    for host in stage.inventory.on("controller"):
        look = Journal(host, UNIT)
        with expecting(f"`{' '.join(argv)}` on {host.name} to list the keys", look):
            found = stage.run(host, *argv).split()
        registry = [key for key in found if key.startswith("/registry/")]
        if wanted not in registry:
            raise Failed(
                f"{wanted} among the keys, since it was just created", f"{len(registry)} keys below /registry/ on {host.name}", look
            )
        counts.append(f"{host.name} {len(registry)}")
    return f"{' '.join(argv)}\n{wanted} is listed; keys below /registry/: {', '.join(counts)}"


def encrypted(stage: Stage) -> str:
    """Write a Secret through every API server and look at the bytes in etcd."""
    hosts, space = stage.inventory.on("controller"), stage.namespace
    evidence = []
    for host in hosts:  # each API server encrypts by its own configuration
        look = Journal(host, "kube-apiserver.service")
        name, word = unique("secret"), secrets.token_hex(16)
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"canary": word}}
        with expecting(f"a Secret and a ConfigMap to be written through {host.name}", look):
            stage.create(f"/api/v1/namespaces/{space}/secrets", body, host=host)
            config_map(stage, name, {"canary": word}, host=host)
        with expecting("etcd to show raw values", Journal(hosts[0], UNIT)):
            raw = etcd.value(stage, hosts[0], f"/registry/secrets/{space}/{name}") or b""
            plain = etcd.value(stage, hosts[0], f"/registry/configmaps/{space}/{name}") or b""
        if word.encode() not in plain:
            raise Failed("a ConfigMap's value to be readable in etcd, or this check could not tell", f"{len(plain)} bytes without it", look)
        if word.encode() in raw or base64.b64encode(word.encode()) in raw or not raw.startswith(ENCRYPTED):
            shown = "its plaintext" if word.encode() in raw else f"{len(raw)} bytes that start otherwise"
            raise Failed(f"a Secret written through {host.name} to start with {ENCRYPTED.decode()} in etcd", shown, look)
        last = hosts[hosts.index(host) - 1]
        path = f"/api/v1/namespaces/{space}/secrets/{name}"
        with expecting(f"{last.name} to decrypt what {host.name} has encrypted", Journal(last, "kube-apiserver.service")):
            read = require(stage.api(path, host=last), f"{last.name} to read the Secret", look).json()
        if base64.b64decode(read["data"]["canary"]) != word.encode():
            raise Failed(f"{last.name} to decrypt what {host.name} has encrypted", "another value", look)
        head = raw.split(b":", 5)[:5]
        evidence.append(
            f"range /registry/secrets/…/{name}, written through {host.name}: {b':'.join(head).decode()}:… ({len(raw)} bytes), no plaintext"
        )
    return "\n".join([*evidence, "control: the ConfigMaps with the same values hold them in plain text"])


@contextmanager
def _leased(stage: Stage, host: Host) -> Iterator[str]:
    """A lease of etcd's: what is written under it goes when it is revoked, or by itself when this process has died."""
    with expecting("etcd to grant a lease", Journal(host, UNIT)):
        lease = _post(stage, host, "/v3/lease/grant", {"TTL": LEASE})["ID"]
    try:
        yield lease
    finally:
        _post(stage, host, "/v3/lease/revoke", {"ID": lease})


def _post(stage: Stage, host: Host, path: str, body: Mapping[str, Any]) -> Any:
    answer = stage.etcd(host, path, body)
    if answer.status != 200:
        raise Mistake.at(host.name, f"etcd answers {answer.status} to {path}")
    return answer.json()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


CHECKS = (
    Check(
        name="etcd.quorum",
        component="etcd",
        proves="etcd is one consistent cluster: healthy members, one leader, and what is written through one is read through the others",
        run=quorum,
        needs=frozenset({"hosts"}),
        sabotage="one member is stopped",
    ),
    Check(
        name="etcd.encrypted-at-rest",
        component="etcd",
        proves="Secrets are encrypted in etcd, whichever API server has written them",
        run=encrypted,
        needs=frozenset({"api", "hosts"}),
        sabotage="`identity` stands first in one API server's encryption configuration",
    ),
    Check(
        name="etcd.keys",
        component="etcd",
        proves="`etcdctl get / --prefix --keys-only` lists over TLS, on each controller, what the API servers store",
        run=keys,
        needs=frozenset({"api", "hosts"}),
        sabotage="etcdctl's certificate is moved away on one controller",
    ),
)
