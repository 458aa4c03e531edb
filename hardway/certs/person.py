"""Access for a person: a short-lived certificate in a kubeconfig, and what it allows."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hardway import render
from hardway.desired import Secret, Template
from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.people import Access
from hardway.pki import issue, kept, tls
from hardway.pki.credentials import Credentials
from hardway.pki.pair import Pair
from hardway.remote.cluster import Cluster
from hardway.remote.http import Client
from hardway.state import State

LONGEST = timedelta(days=30)  # nothing revokes a certificate before its end
SHORTEST = timedelta(minutes=5)
NAMESPACES = ("default", "kube-system")
FEW = 8  # resources in one line
# What every user may do: ask about himself.
OWN = frozenset({"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"})
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who is given access."""

    user: str
    group: str | None
    lifetime: timedelta

    def refused(self) -> Iterator[str]:
        """Why not."""
        for name in (self.user, *([self.group] if self.group else [])):
            if name.startswith("system:"):
                yield f"{name}: names that begin with system: are Kubernetes' own"
            if not name.isprintable() or not name.strip() or len(name) > 64:
                yield f"{name!r}: a name has 1 to 64 characters that can be printed"
        if not SHORTEST <= self.lifetime <= LONGEST:
            yield f"a certificate for a person lasts 5 minutes to {LONGEST.days} days, since nothing revokes it"


def issued(person: Person, state: State, now: datetime, unlock: kept.Unlock = kept.locked) -> Secret:
    """Certificate and key, which state/ does not keep."""
    if why := list(person.refused()):
        raise Mistake.at("kubeconfig", "; ".join(why))
    minutes = int(person.lifetime.total_seconds() // 60)
    return issue.short_lived(state, "kubernetes", person.user, person.group, minutes, now, unlock, newest=True)


def access(person: Person, pair: Secret, credentials: Credentials) -> Access:
    """What is written down of it: no key."""
    made = Pair.parse(pair.data)
    return Access(
        user=person.user,
        fingerprint=tls.fingerprint(pair),
        signer=made.issuer,
        believes=tuple(one.common_name for one in credentials.trusts["kubernetes"].trusted),
        until=made.certificate.not_valid_after_utc,
    )


def kubeconfig(inventory: Inventory, credentials: Credentials, person: Person, pair: Secret) -> Secret:
    """Whole in one file."""
    values = {
        "user": person.user,
        "certificate_authority": b64encode(credentials.trusts["kubernetes"].bundle.encode()).decode(),
        "client": b64encode(pair.data).decode(),
    }
    return _rendered(inventory, "templates/person.kubeconfig.yaml", values)


def naming(inventory: Inventory, person: Person, client: str, certificate_authority: str) -> Secret:
    """One that names the files beside it."""
    quoted = {"user": person.user, "client": client, "certificate_authority": certificate_authority}  # JSON is YAML
    values = {"server": inventory.server, **{name: json.dumps(text) for name, text in quoted.items()}}
    return _rendered(inventory, "templates/kubeconfig.yaml", values)


def _rendered(inventory: Inventory, source: str, values: Mapping[str, object]) -> Secret:
    return Secret(render.text(Template(source=source, values=values, secret=True), inventory=inventory).encode())


def may(cluster: Cluster, pair: Secret) -> tuple[str, ...]:
    """What the API server lets this user do in some namespaces, one line for those where it is the same; none if nothing."""
    client = Client(cluster.dial, tls.client(trusted=cluster.credentials.trusts["kubernetes"].bundle, pair=pair))
    found: dict[str, list[str]] = {}
    try:
        for space in NAMESPACES:
            if rules := _in(client, cluster.inventory.server, space):
                found.setdefault("; ".join(rules), []).append(space)
    finally:
        client.close()
    return tuple(f"in {' and '.join(spaces)}: {rules}" for rules, spaces in found.items())


def _in(client: Client, server: str, space: str) -> tuple[str, ...]:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": space}}
    answer = client.request("POST", server, RULES, body=body)
    if answer.status != 201:
        raise Mistake.at(server, f"the API server answers {answer.status}")
    return told(answer.json()["status"]["resourceRules"])


def told(rules: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Rules in few words: what may be done alike is told together."""
    alike: dict[str, dict[str, None]] = {}
    for rule in rules:
        resources, groups = rule.get("resources", ()), rule.get("apiGroups", ())
        if OWN.issuperset(resources):
            continue
        if rule["verbs"] == ["*"] and "*" in resources and "*" in groups:
            return ("everything",)
        named = f" named {', '.join(rule['resourceNames'])}" if rule.get("resourceNames") else ""
        alike.setdefault(", ".join(rule["verbs"]), {}).update(dict.fromkeys(f"{one.partition('/')[0]}{named}" for one in resources))
    return tuple(f"{verbs} {_few(list(resources))}" for verbs, resources in alike.items())


def _few(resources: Sequence[str]) -> str:
    return ", ".join(resources) if len(resources) <= FEW else f"{', '.join(resources[: FEW - 1])} and {len(resources) - FEW + 1} more"
