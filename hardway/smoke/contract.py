"""What a run may do on a cluster that is not ours: no more than its checks declare, and only what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from hardway.desired import Answer, Check, Permission, Stage
from hardway.errors import Mistake
from hardway.smoke.removal import IN_A_SPACE, NAME
from hardway.smoke.verdict import Skipped

REVIEW = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
HAVE = frozenset({"api"})
# That runs of ours which were killed can be reaped.
REAPING = tuple(Permission(resource=plural, group=group, verbs=("list", "delete")) for plural, group in IN_A_SPACE.items())


class Asks(Protocol):
    def request(self, method: str, path: str, body: Any = None) -> Answer: ...


def bounded(checks: Iterable[Check], api: Asks, space: str, *, read_only: bool) -> tuple[Check, ...]:
    """The checks; those that may not do what they have to are skipped with the reason."""
    return tuple(_skipping(check, why) if (why := _why_not(check, api, space, read_only=read_only)) else check for check in checks)


def writes(checks: Iterable[Check], space: str) -> tuple[str, ...]:
    """What the checks write, in words."""
    planned = (one for check in checks if check.needs <= HAVE for one in check.permissions if one.writes)
    verbs: dict[str, set[str]] = {}
    for one in planned:
        verbs.setdefault(_what(one, space), set()).update(set(one.verbs) - {"get", "list", "watch"})
    return tuple(f"{', '.join(sorted(by))} {what}" for what, by in sorted(verbs.items()))


def roles(checks: Iterable[Check], space: str, user: str) -> str:
    """The smallest Roles with which the checks run, and their bindings to a user, as YAML."""
    wanted: dict[str, dict[tuple[str, str, str], set[str]]] = {}
    for one in (*(one for check in checks if check.needs <= HAVE for one in check.permissions if not one.path), *REAPING):
        wanted.setdefault(_namespace(one, space), {}).setdefault((one.group, one.resource, one.name), set()).update(one.verbs)
    head = "# /readyz and /version are open to every user by the ClusterRole system:public-info-viewer that each cluster has.\n"
    return head + "".join(part for namespace, rules in wanted.items() for part in _role(namespace, rules, user))


def _role(namespace: str, rules: dict[tuple[str, str, str], set[str]], user: str) -> Iterator[str]:
    role, within = ("Role", f", namespace: {namespace}") if namespace else ("ClusterRole", "")

    def metadata(kind: str) -> str:
        return f"---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {NAME}{within}}}\n"

    yield f"{metadata(role)}rules:\n"
    for (group, resource, name), verbs in sorted(rules.items()):
        named = f", resourceNames: [{name}]" if name else ""
        yield f'  - {{apiGroups: ["{group}"], resources: [{resource}]{named}, verbs: [{", ".join(sorted(verbs))}]}}\n'
    yield metadata(f"{role}Binding")
    yield f"roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {role}, name: {NAME}}}\n"
    yield f'subjects:\n  - {{apiGroup: rbac.authorization.k8s.io, kind: User, name: "{user}"}}\n'


def _why_not(check: Check, api: Asks, space: str, *, read_only: bool) -> str | None:
    if not check.needs <= HAVE:
        return f"it needs {', '.join(sorted(check.needs - HAVE))}"
    if not check.permissions:  # nobody has said what it does
        return "it is for clusters of this kit"
    if read_only and any(one.writes for one in check.permissions):
        return "it writes, and this run is --read-only"
    missing = [f"{verb} {_what(one, space)}" for one in check.permissions for verb in one.verbs if not _may(api, one, verb, space)]
    return f"not allowed: {', '.join(missing)}" if missing else None


def _may(api: Asks, one: Permission, verb: str, space: str) -> bool:
    if one.path:
        spec: dict[str, Any] = {"nonResourceAttributes": {"path": one.path, "verb": verb}}
    else:
        named = {"name": one.name} if one.name else {}
        resource, _, below = one.resource.partition("/")
        where = {"namespace": _namespace(one, space), **({"subresource": below} if below else {})}
        attributes = {**where, "verb": verb, "group": one.group, "resource": resource}
        spec = {"resourceAttributes": {**attributes, **named}}
    answer = api.request("POST", REVIEWS, {**REVIEW, "spec": spec})
    if answer.status != 201:
        raise Mistake.at("SelfSubjectAccessReview", f"the API server answers {answer.status}")
    return bool(answer.json()["status"]["allowed"])


def _what(one: Permission, space: str) -> str:
    named = f"/{one.name}" if one.name else ""
    space = _namespace(one, space)
    where = f" in {space}" if space else ""
    return one.path or f"{one.resource}{named}{where}"


def _namespace(one: Permission, space: str) -> str:
    return "" if one.cluster else one.namespace or space


def _skipping(check: Check, why: str) -> Check:
    def run(_: Stage) -> str:
        raise Skipped(why)

    return replace(check, run=run, needs=frozenset(), permissions=(), last=False)
