"""Keys without a certificate: those that sign ServiceAccount tokens, and those that encrypt what etcd holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from hardway.components import etcd, kube_apiserver
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.pki import succession
from hardway.pki.succession import Step
from hardway.remote.cluster import Cluster
from hardway.rotate import tokens, used
from hardway.rotate.asking import got
from hardway.rotate.believed import until_all
from hardway.rotate.steps import Course, World, walk

ACCOUNT, SECRETS = "service-account", "encryption"
JWKS = "/openid/v1/jwks"
ENCRYPTED = "/registry/secrets/"
PAGE = 200  # objects asked for at a time
RELOADED = 90.0  # seconds: an API server looks at its EncryptionConfiguration each minute
WITHIN = 120.0
PREFIX = re.compile(rb"^k8s:enc:\w+:v1:([^:]+):")
CONFIGURATION = "/etc/kubernetes/kube-apiserver/encryption.yaml"
LOADED = """
sum=$(sha256sum <"$1"); began=$(date -d "$(systemctl show --property=ActiveEnterTimestamp --value kube-apiserver)" +%s)
young=no; [ "$began" -le "$(stat -L -c %Z -- "$1")" ] || young=yes
echo "${sum%% *} $young"
"""


def rotate(world: World, name: str, last: Step = Step.FINISH, *, refresh: bool = False) -> None:
    """Take a key through the steps up to `last`; `refresh` restarts Pods that hold older tokens."""
    walk(world, name, [course(world, name, refresh=refresh)], last)


def course(world: World, name: str, *, refresh: bool = False) -> Course:
    """How a key is replaced."""
    return Course(
        name=name,
        done=succession.key_done(world.state, name),
        allow=partial(_allow, world, name, refresh),
        take=partial(_take, world, name),
        prove=partial(PROOFS[name], world),
        forget=partial(succession.forget_key, world.state, name),
    )


def _allow(world: World, name: str, refresh: bool, step: Step) -> None:
    if step is Step.FINISH:
        with world.cluster() as cluster:
            if refresh and name == ACCOUNT:
                tokens.refresh(cluster, world.tell)
            _refuse_if_needed(world, cluster, name)


def _take(world: World, name: str, step: Step) -> None:
    match step:
        case Step.PREPARE:
            made = succession.prepare_key(name, world.inventory, world.state, datetime.now(UTC))
            world.tell(f"{name}: prepare: key {made} is made, and will be known beside the older one")
        case Step.SWITCH:
            succession.switch_key(world.state, name)
            world.tell(f"{name}: switch: the new key is the one that is used")
        case Step.FINISH:
            gone = succession.finish_key(world.state, name)
            world.tell(f"{name}: finish: {', '.join(file.rpartition('/')[2] for file in gone)} will be known no more")


def _refuse_if_needed(world: World, cluster: Cluster, name: str) -> None:
    if name == SECRETS:
        newest = cluster.credentials.encryption_keys[0].name
        old = sorted({used for used in _prefixes(cluster) if used != newest})
        if old:
            raise Mistake.at("etcd", f"some of what it holds is encrypted by {', '.join(old)}", "run it again: it rewrites them first")
        return
    if findings := tuple(tokens.old(cluster)):
        raise Mistake(*findings)
    until_all({"Pods": partial(tokens.unread, cluster)}, within=WITHIN, tell=world.tell)
    pair = next(one for one in world.declarations.key_pairs if one.key_pair == name)
    used.refuse(used.tokens(cluster, pair, datetime.now(UTC)), world.tell, cut_off=world.cut_off)


# ServiceAccount tokens


def _prove_account(world: World, cluster: Cluster, step: Step) -> None:
    """Each API server publishes the keys that it believes; and one signs what all believe."""
    controllers = cluster.inventory.on("controller")
    wanted = 2 if step is not Step.FINISH else 1
    questions = {f"kube-apiserver on {host.name}": partial(_publishes, cluster, host, wanted) for host in controllers}
    until_all(questions, within=WITHIN, tell=world.tell)
    if step is Step.PREPARE:
        return
    for host in controllers:
        token = cluster.token(host)
        for other in controllers:
            answer = cluster.visit(kube_apiserver.url(other), "/api", token=token)
            if answer.status != 200:
                raise Mistake.at(other.name, f"a token of {host.name} is answered with {answer.status}", "run it again")


def _publishes(cluster: Cluster, host: Host, number: int) -> str | None:
    found = len(got(cluster, JWKS, host=host)["keys"])
    return None if found == number else f"it publishes {found} keys, wanted {number}"


# Encryption at rest


def _prove_secrets(world: World, cluster: Cluster, step: Step) -> None:
    """Each API server has read its configuration; from the switch on, all is written again by the new key."""
    controllers = cluster.inventory.on("controller")
    if step is not Step.SWITCH:
        questions = {f"kube-apiserver on {host.name}": partial(_has_read, cluster, host) for host in controllers}
        until_all(questions, within=RELOADED, tell=world.tell)
        return
    newest = cluster.credentials.encryption_keys[0].name
    questions = {f"kube-apiserver on {host.name}": partial(_writes_by, cluster, host, newest) for host in controllers}
    until_all(questions, within=RELOADED, tell=world.tell)
    rewritten = rewrite(cluster)
    world.tell(f"{SECRETS}: {rewritten} Secrets are written again, by {newest}")


def _has_read(cluster: Cluster, host: Host) -> str | None:
    """It was started after the file came, or names that file's digest among its metrics."""
    digest, young = cluster.run(host, "sh", "-c", LOADED, "sh", CONFIGURATION).split()
    if young == "yes" or digest.encode() in cluster.api("/metrics", host=host).body:
        return None
    return f"it looks at {CONFIGURATION} each minute, and has not read it yet"


def _writes_by(cluster: Cluster, host: Host, newest: str) -> str | None:
    """Write a Secret through one API server and look at its bytes in etcd."""
    space, name = "kube-system", f"hardway-probe-{host.name}"
    path = f"/api/v1/namespaces/{space}/secrets"
    cluster.request("DELETE", f"{path}/{name}", host=host)
    made = cluster.request("POST", path, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}, host=host)
    try:
        raw = etcd.value(cluster, host, f"{ENCRYPTED}{space}/{name}") or b""
    finally:
        cluster.request("DELETE", f"{path}/{name}", host=host)
    found = PREFIX.match(raw)
    by = found[1].decode() if found else "nothing"
    return None if made.status == 201 and by == newest else f"it encrypts by {by}"


def rewrite(cluster: Cluster) -> int:
    """Write every Secret again as it is, so that it is encrypted by the key that writes now; the number of those."""
    count, token = 0, ""
    while True:
        page = cluster.api(f"/api/v1/secrets?limit={PAGE}{f'&continue={quote(token)}' if token else ''}")
        if page.status == 410:  # the list has grown too old to go on with: those that are done cost a write that changes nothing
            token = ""
            continue
        if page.status != 200:
            raise Mistake.at("secrets", f"the API answers {page.status}", "run it again")
        listed = page.json()
        for one in listed["items"]:
            count += _written_again(cluster, one)
        token = listed["metadata"].get("continue") or ""
        if not token:
            return count


def _written_again(cluster: Cluster, one: Any) -> int:
    """A PUT of what was read: refused if somebody has changed it meanwhile, and then that was written by the new key already."""
    path = f"/api/v1/namespaces/{one['metadata']['namespace']}/secrets/{one['metadata']['name']}"
    answer = cluster.request("PUT", path, {"apiVersion": "v1", "kind": "Secret", **one})
    if answer.status in {404, 409}:
        return 0
    if answer.status != 200:
        raise Mistake.at(path, f"cannot be written again: {answer.status}", "run it again")
    return 1


def _prefixes(cluster: Cluster) -> Iterator[str]:
    """The name of the key by which each Secret lies in etcd."""
    host = cluster.inventory.on("controller")[0]
    for raw in etcd.values(cluster, host, ENCRYPTED):
        found = PREFIX.match(raw)
        yield found[1].decode() if found else "nobody"


PROOFS = {ACCOUNT: _prove_account, SECRETS: _prove_secrets}
