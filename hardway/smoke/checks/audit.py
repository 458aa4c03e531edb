"""Who did what is recorded: each API server's audit log."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any

from hardway.components import kube_apiserver
from hardway.desired import Check, Stage
from hardway.inventory import Host
from hardway.smoke.stage import unique
from hardway.smoke.verdict import Failed, Journal, eventually, expecting, require

UNIT = kube_apiserver.COMPONENT.unit
WITHIN = 10.0  # seconds
# $1 the directory of --audit-log-path, then the words to look for; a log that was rotated meanwhile is read too.
_LINES = """
directory=$1; shift
for word; do set -- "$@" -e "$word"; shift; done
find "$directory" -name 'audit*.log' -mmin -10 -exec grep -hF "$@" {} +
exit 0
"""


def recorded(stage: Stage) -> str:
    """Write a Lease and a Secret through every API server, and look for both in every log."""
    hosts, space = stage.inventory.on("controller"), stage.namespace
    canaries, seen = [], []
    for host in hosts:
        name, word, plain = unique("audit"), secrets.token_hex(16), secrets.token_hex(16)
        canaries += [word, base64.b64encode(word.encode()).decode()]
        with expecting(f"a Lease and a Secret to be written through {host.name}", Journal(host, UNIT)):
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "annotations": {"canary": plain}}}
            stage.create(f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases", lease, host=host)
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"canary": word}}
            stage.create(f"/api/v1/namespaces/{space}/secrets", secret, host=host)
            require(stage.api(f"/api/v1/namespaces/{space}/secrets/{name}", host=host), "the Secret to be read")
        seen.append((host, name, plain))
    evidence = [_in_its_log(stage, host, name, plain) for host, name, plain in seen]
    for host in hosts:
        with expecting(f"the audit log of {host.name} to be read", Journal(host, UNIT)):
            shown = _lines(stage, host, *canaries, *(name for _, name, _ in seen))
        if any(canary in line for line in shown for canary in canaries):
            raise Failed(f"no Secret's value in the audit log of {host.name}", "the canary is in it", Journal(host, UNIT))
        others = {name for other, name, _ in seen if other != host}
        if strays := [line for line in shown if any(name in line for name in others)]:
            raise Failed(f"only what {host.name} has served in its audit log", f"{len(strays)} entries of others", Journal(host, UNIT))
    return "\n".join([*evidence, "the Secrets' values are in none of the logs; control: the Leases' annotations are"])


def _in_its_log(stage: Stage, host: Host, name: str, plain: str) -> str:
    """Both writes, each at the level of the policy."""
    look = Journal(host, UNIT)
    found: dict[str, Mapping[str, Any]] = {}

    def there() -> str | None:
        entries = [json.loads(line) for line in _lines(stage, host, name)]
        created = (one for one in entries if one["verb"] == "create" and one["stage"] == "ResponseComplete")
        found.update({one["objectRef"]["resource"]: one for one in created})
        missing = {"leases", "secrets"} - set(found)
        return f"no entry for {' and '.join(sorted(missing))}" if missing else None

    eventually(stage, f"two writes through {host.name} in its audit log", there, within=WITHIN, look=look)
    lease, secret = found["leases"], found["secrets"]
    sent = lease.get("requestObject", {}).get("metadata", {}).get("annotations", {}).get("canary")
    if (lease["level"], sent) != ("Request", plain):
        raise Failed("the Lease at level Request, with the object that was sent", f"level {lease['level']}", look)
    if secret["level"] != "Metadata" or {"requestObject", "responseObject"} & set(secret):
        raise Failed("the Secret at level Metadata, without any body", f"level {secret['level']}", look)
    user = lease["user"]["username"]
    return f"audit log of {host.name}: {user} create leases {name} at level Request, create secrets {name} at level Metadata"


def _lines(stage: Stage, host: Host, *words: str) -> list[str]:
    return stage.run(host, "sh", "-c", _LINES, "sh", "/var/log/kube-apiserver", *words).splitlines()


CHECKS = (
    Check(
        name="apiserver.audit",
        component="kube-apiserver",
        proves="who did what is in the log of the API server that served it, at the level of the policy, and no Secret's value is",
        run=recorded,
        needs=frozenset({"api", "hosts"}),
        sabotage="one API server's audit policy records bodies of everything",
    ),
)
