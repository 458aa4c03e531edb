"""The Pods of traffic, and what those of them that are clients have written about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hardway.desired import RESTRICTED, container
from hardway.traffic.ledger import Failure, Tally
from hardway.traffic.settings import Settings

PORT = 8080  # of agnhost's netexec
WEBHOOK_PORT = 8443
NAME = "hardway-traffic"
LATE = 1.5  # seconds between two calls, of which one is to come each second: the first of them took so long
EACH = 5  # hundredths of a second between two requests to the Service

# $1 the Service. Times are hundredths of a second of the machine's own clock, which the shell reads without starting a program.
# `wget -T` of Debian's busybox crashes.
CALLER = r"""
trap 'exit 0' TERM
now() { read -r up _ </proc/uptime; now=${up%.*}${up#*.}; }
ask() { timeout 5 wget -q -O - "http://$1/hostname" 2>&1 >/dev/null; }
until ask "$1"; do sleep 0.2; done
now; echo "begun $(date +%s) $now"; due=$now
while :; do
  now; began=$now
  if said=$(ask "$1"); then now; echo "$began $now"; else now; echo "$began $now" ${said:-no answer within 5 s}; fi
  due=$((due + EACH)); [ $((now - due)) -lt 100 ] || due=$now
  [ "$now" -ge "$due" ] || usleep $(((due - now) * 10000))
done
""".replace("EACH", str(EACH))

_CALL = re.compile(r"[A-Z](\d{4} \d\d:\d\d:\d\d\.\d+)\s+\d+ \S+\] (calling|error checking) /healthz:?(.*)")  # klog's lines
Line = tuple[float, float, str]  # begun, ended, what went wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a Pod's client has counted."""

    tally: Tally
    failures: list[Failure] = field(default_factory=list)


def pods(settings: Settings, service: str) -> dict[str, Mapping[str, Any]]:
    """By name: two servers, on nodes of their own if there are two; a caller of their Service; a client of the API; a webhook."""
    ready = {"httpGet": {"path": "/hostname", "port": PORT}, "periodSeconds": 1}
    server = container(settings.image, "server", "netexec", f"--http-port={PORT}", readinessProbe=ready)
    caller = container(settings.image, "caller", "-c", CALLER, "sh", service, command=["/bin/sh"])
    client = container(settings.image, "client", "inclusterclient", "--poll-interval=1")
    files = (f"--tls-cert-file=/{NAME}/pair.pem", f"--tls-private-key-file=/{NAME}/pair.pem")
    mounts = [{"name": "pair", "mountPath": f"/{NAME}", "readOnly": True}]
    shown = {"httpGet": {"path": "/readyz", "port": WEBHOOK_PORT, "scheme": "HTTPS"}, "periodSeconds": 1}
    hook = container(settings.image, "webhook", "webhook", *files, f"--port={WEBHOOK_PORT}", readinessProbe=shown, volumeMounts=mounts)
    return {
        "server-1": _pod(settings, "server", server),
        "server-2": _pod(settings, "server", server),
        "caller": _pod(settings, "caller", caller),
        "client": _pod(settings, "client", client, automountServiceAccountToken=True),
        "webhook": _pod(settings, "webhook", hook, volumes=[{"name": "pair", "secret": {"secretName": "webhook"}}]),
    }


def _pod(settings: Settings, part: str, one: Mapping[str, Any], **fields: Any) -> Mapping[str, Any]:
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [each.document() for each in settings.tolerations],
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": {NAME: part}}}],
        "terminationGracePeriodSeconds": 1,
        "securityContext": RESTRICTED,
        "activeDeadlineSeconds": settings.longest + 900,
        "containers": [one],
        **({"imagePullSecrets": [{"name": settings.pull_secret}]} if settings.pull_secret else {}),
        **fields,
    }
    return {"metadata": {"labels": {NAME: part}}, "spec": spec}


def calls(log: str) -> Iterator[Line]:
    """What the caller has written: its own clock, brought to seconds since the epoch."""
    offset: float | None = None
    for line in log.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "begun":
            offset = int(words[1]) - int(words[2]) / 100
        elif offset is not None and len(words) >= 2 and words[0].isdecimal() and words[1].isdecimal():
            yield offset + int(words[0]) / 100, offset + int(words[1]) / 100, " ".join(words[2:])


def polls(log: str, year: int) -> Iterator[Line]:
    """What the client of the API has written; the first that was answered begins it."""
    begun: float | None = None
    wrong, ever = "", False
    for line in log.splitlines():
        if (found := _CALL.match(line)) is None:
            continue
        at = datetime.strptime(f"{year}{found[1]}", "%Y%m%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
        if found[2] != "calling":
            wrong = found[3].strip() or "no answer"
            if begun is not None and ever:
                yield begun, at, wrong
            begun = None
            continue
        if begun is not None:  # the one before it went well: nothing was said of it
            ever = True
            yield begun, at if at - begun > LATE else begun, ""
        begun = at


def counted(kind: str, lines: Iterator[Line], since: float) -> Found:
    """The lines of a client that is alone, from then on: failures, and the longest time without an answer."""
    tally, failures = Tally(), list[Failure]()
    waiting: float | None = None
    for began, ended, wrong in lines:
        if began < since:
            continue
        waiting = began if waiting is None else waiting
        if not wrong:
            tally.ended(ended, ended - waiting)
            waiting = None
            continue
        tally.ended(ended, 0)
        tally.failed(began, visible=True, replayed=False)
        failures.append(
            Failure(at=began, kind=kind, client="in a Pod", method="GET", instance="", cause=wrong, replayed=False, visible=True)
        )
    if waiting is not None and failures:
        tally.gap = max(tally.gap, failures[-1].at - waiting)
    return Found(tally=tally, failures=failures)


READERS: Mapping[str, tuple[str, Callable[[str], Iterator[Line]]]] = {
    "service": ("caller", calls),
    "service_account": ("client", lambda log: polls(log, datetime.now(UTC).year)),
}
