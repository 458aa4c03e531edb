"""Access for a person: a short-lived certificate in a kubeconfig, and what it allows."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hardway import render
from hardway.desired import Secret, Template
from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import issue, tls
from hardway.pki.credentials import Credentials
from hardway.remote.cluster import Cluster
from hardway.remote.http import Client
from hardway.state import State

LONGEST = timedelta(days=30)  # nothing revokes a certificate before its end
SHORTEST = timedelta(minutes=5)
NAMESPACES = ("default", "kube-system")
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


def issued(person: Person, state: State, now: datetime) -> Secret:
    """Certificate and key, which state/ does not keep."""
    if why := list(person.refused()):
        raise Mistake.at("kubeconfig", "; ".join(why))
    return issue.short_lived(state, "kubernetes", person.user, person.group, int(person.lifetime.total_seconds() // 60), now)


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
    """What the API server lets this user do, one line for each namespace that was asked about; none if nothing."""
    client = Client(cluster.dial, tls.client(trusted=cluster.credentials.trusts["kubernetes"].bundle, pair=pair))
    try:
        return tuple(line for space in NAMESPACES if (line := _in(client, cluster.inventory.server, space)))
    finally:
        client.close()


def _in(client: Client, server: str, space: str) -> str | None:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": space}}
    answer = client.request("POST", server, RULES, body=body)
    if answer.status != 201:
        raise Mistake.at(server, f"the API server answers {answer.status}")
    rules = [rule for rule in answer.json()["status"]["resourceRules"] if not OWN.issuperset(rule.get("resources", ()))]
    return f"in {space}: {'; '.join(dict.fromkeys(map(_rule, rules)))}" if rules else None


def _rule(rule: dict[str, Any]) -> str:
    if rule["verbs"] == ["*"] and rule.get("resources") == ["*"] and "*" in rule.get("apiGroups", ()):
        return "everything"
    names = f" named {', '.join(rule['resourceNames'])}" if rule.get("resourceNames") else ""
    return f"{', '.join(rule['verbs'])} {_few(rule.get('resources', []))}{names}"


def _few(resources: list[str]) -> str:
    return ", ".join(resources) if len(resources) <= 6 else f"{', '.join(resources[:5])} and {len(resources) - 5} more"
