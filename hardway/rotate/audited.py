"""Which credentials the API servers were shown, and which tokens they have issued: their audit logs name each.

A token is `JTI=<its id>`, and a certificate `X509SHA256=<its fingerprint>`, in the request that was made with it; of a token also in the
request that has issued it (https://kep.k8s.io/4193; apiserver, pkg/authentication/user). What was sent in a request is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from hardway.inventory import Host
from hardway.proof import AUDIT
from hardway.remote.cluster import Cluster
from hardway.remote.fanout import each

USED = "authentication.kubernetes.io/credential-id"
ISSUED = "authentication.kubernetes.io/issued-credential-id"
POD = "authentication.kubernetes.io/pod-name"
AT_ONCE = 3  # hosts that read their logs at a time
# Of the logs in directory $1 that were written after $2, the last request since $3 of each credential, and each that has issued a token.
# Bodies are cut out: they may be long, and are whatever somebody has sent. No regular expression is given anything that was sent.
READ = r"""
find "$1" -name 'audit*.log' -newermt "$2" -exec cat {} + | awk -v since="$3" '
!index($0, "authentication.kubernetes.io/") { next }
{
  n = split($0, part, ",\"requestReceivedTimestamp\":\"")
  if (n < 2 || substr(part[n], 1, length(since)) < since) next
  head = part[1]
  body = index(head, ",\"requestObject\":"); if (body) head = substr(head, 1, body - 1)
  body = index(head, ",\"responseObject\":"); if (body) head = substr(head, 1, body - 1)
  line = head ",\"requestReceivedTimestamp\":\"" part[n]
  if (index(part[n], "\"authentication.kubernetes.io/issued-credential-id\":\"")) { print line; next }
  if (!match(head, /"authentication\.kubernetes\.io\/credential-id":\["[^"]*"/)) next
  id = substr(head, RSTART, RLENGTH)
  if (part[n] > last[id]) { last[id] = part[n]; shown[id] = line }
}
END { for (id in shown) print shown[id] }'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The last one that was made with a credential."""

    user: str
    at: datetime
    client: str  # where it came from, and the program
    in_pod: bool  # the credential is a token that ends with its Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What the logs of all API servers hold since some time."""

    shown: Mapping[str, Request] = field(default_factory=dict)  # by credential
    issued: Mapping[str, tuple[str, datetime]] = field(default_factory=dict)  # by credential: the host, and when


def read(cluster: Cluster, since: datetime) -> Log:
    """Look into every API server's log."""
    shown: dict[str, Request] = {}
    issued: dict[str, tuple[str, datetime]] = {}
    for host, lines in each(cluster.inventory.on("controller"), partial(_lines, cluster, since), AT_ONCE).items():
        for event in _events(lines):
            at = datetime.fromisoformat(event["requestReceivedTimestamp"])
            if made := event.get("annotations", {}).get(ISSUED):
                issued[made] = host.name, at
            for credential in event["user"].get("extra", {}).get(USED, ()):
                if credential not in shown or shown[credential].at < at:
                    shown[credential] = _request(event, at)
    return Log(shown=shown, issued=issued)


def _lines(cluster: Cluster, since: datetime, host: Host) -> list[str]:
    utc = since.astimezone(UTC)
    words = (f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{utc:%Y-%m-%dT%H:%M:%S}")
    return cluster.run(host, "sh", "-c", READ, "sh", str(PurePosixPath(AUDIT).parent), *words).splitlines()


def _events(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The lines that are whole: the last one may be on its way into the file."""
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)


def _request(event: Mapping[str, Any], at: datetime) -> Request:
    user = event["user"]
    program = event.get("userAgent", "").partition(" ")[0]
    place = (event.get("sourceIPs") or ["somewhere"])[0]
    return Request(
        user=user["username"],
        at=at,
        client=f"{place}{f' ({program})' if program else ''}",
        in_pod=POD in user["extra"],
    )
