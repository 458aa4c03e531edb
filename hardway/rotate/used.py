"""Who goes on using what an older generation or key has signed, beyond what hosts and Pods hold: seen by what was asked lately."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hardway import people
from hardway.components import kube_apiserver
from hardway.errors import Finding, Mistake
from hardway.inventory import Host
from hardway.people import Access
from hardway.pki import tls
from hardway.pki.declared import KeyPair, Place
from hardway.pki.pair import BACKDATED, Pair
from hardway.pki.trust import Trust
from hardway.proof import CREDENTIAL
from hardway.remote.cluster import Cluster
from hardway.rotate import audited
from hardway.rotate.audited import Request
from hardway.state import State

Tell = Callable[[str], None]

LATELY = timedelta(hours=1)  # who has asked within this time is taken to ask again
FOLLOWED = timedelta(minutes=10)  # after a switch, in which clients look at their files again: client-go does each five minutes
GRACE = timedelta(seconds=30)  # in which a daemon that has its new key is restarted by it
ACCOUNT = "system:serviceaccount:"
STARTED = """
changed=$(stat -L -c %Z -- "$1") began=$(date -d "$(systemctl show --property=ExecMainStartTimestamp --value "$2")" +%s)
[ "$began" -ge "$changed" ] || began=$((changed + $3))
[ "$began" -le "$((changed + $3))" ] && echo "$began" || echo "$((changed + $3))"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """Somebody who is not known to have followed."""

    who: str
    what: str
    step: str = ""  # without it he has not asked lately: told, and the run goes on


def refuse(dependents: Iterable[Dependent], tell: Tell, *, cut_off: bool) -> None:
    """A Mistake with everybody who has asked lately, unless they are to be cut off; all others are told."""
    refused = []
    for one in dependents:
        if one.step and not cut_off:
            refused.append(Finding(where=one.who, what=one.what, next_step=f"{one.step}; --cut-off does not wait for it"))
        else:
            tell(f"{one.who}: {one.what}")
    if refused:
        raise Mistake(*refused)


def tokens(cluster: Cluster, keys: KeyPair, now: datetime) -> Iterator[Dependent]:
    """ServiceAccounts whose tokens of the older key were used since the new one signs. Those of Pods are seen where they lie."""
    began = {
        (unit, host.name): _began(cluster, host, unit, place)
        for place in keys.private_in
        for unit in place.read_by
        for host in cluster.inventory.on(place.role)
    }
    since = {host: at for (unit, host), at in began.items() if unit == kube_apiserver.COMPONENT.unit}  # what it issues is new
    last = max(began.values())  # until then a controller manager uses tokens of the older key, rightly
    log = audited.read(cluster, min(since.values()))
    new = {credential for credential, (host, at) in log.issued.items() if at >= since[host]}
    for credential, request in _by_time(log.shown):
        if request.user.startswith(ACCOUNT) and not request.in_pod and credential not in new and request.at >= last:
            yield _dependent(
                f"ServiceAccount {request.user.removeprefix(ACCOUNT).replace(':', '/')}",
                "a token that the older key has signed",
                request,
                now,
                "give it a new one, and wait for an hour after its last request",
            )


def _began(cluster: Cluster, host: Host, unit: str, key: Place) -> datetime:
    """When a reader has begun with the key that is there; one that was restarted again since, at the latest when it had to."""
    seconds = cluster.run(host, "sh", "-ec", STARTED, "sh", str(key.path), unit, str(int(GRACE.total_seconds())))
    return datetime.fromtimestamp(int(seconds), UTC)


def believers(cluster: Cluster, state: State, newest: str, now: datetime) -> Iterator[Dependent]:
    """People whose kubeconfigs do not know the newest generation, which is about to show itself."""
    given = people.given(state, now)
    behind = [one for one in given if newest not in one.believes]
    if behind:
        shown = audited.read(cluster, now - LATELY).shown
        yield from _behind(behind, given, f"a kubeconfig that does not know {newest}", shown, now)


def certificates(cluster: Cluster, state: State, trust: Trust, now: datetime) -> Iterator[Dependent]:
    """Who shows certificates that an older generation has signed: people, and copies of the operator's own kubeconfig."""
    signer, given = trust.signer.common_name, people.given(state, now)
    operators = cluster.credentials.operators.values()
    ours = [pair for pair in (Pair.parse(secret.data) for secret in operators) if pair.issuer == signer]
    since = max((pair.certificate.not_valid_before_utc for pair in ours), default=now) + BACKDATED + FOLLOWED
    shown = audited.read(cluster, since).shown if since < now else {}
    yield from _behind([one for one in given if one.signer != signer], given, "a certificate of an older generation", shown, now)
    known = {f"{CREDENTIAL}{tls.fingerprint(pair)}" for pair in operators} | set(map(_credential, given))
    names = {pair.common_name for pair in ours}
    for credential, request in _by_time(shown):
        if credential.startswith(CREDENTIAL) and credential not in known and not request.user.startswith("system:"):
            if request.user in names:
                step = "bring the operator's kubeconfig there again, and wait for an hour after its last request"
                yield _dependent(request.user, "an older certificate than the one in state/", request, now, step)
            else:  # who has signed it is not known
                yield Dependent(who=request.user, what=_told("a certificate that is not in state/", request, now))


def _behind(
    behind: Sequence[Access], given: Sequence[Access], what: str, shown: Mapping[str, Request], now: datetime
) -> Iterator[Dependent]:
    """Those who have been seen with a newer one since have followed."""
    for one in behind:
        last = shown.get(_credential(one))
        newer = [shown.get(_credential(other)) for other in given if other.user == one.user and other not in behind]
        if last is None:
            yield Dependent(who=one.user, what=f"has {what}, until {one.until:%Y-%m-%d %H:%M} UTC")
        elif not any(request and request.at > last.at for request in newer):
            step = f"give a new one by `./inv kubeconfig --user {shlex.quote(one.user)}`, and go on when it was used"
            yield _dependent(one.user, what, last, now, step)


def _by_time(shown: Mapping[str, Request]) -> list[tuple[str, Request]]:
    return sorted(shown.items(), key=lambda one: one[1].at)


def _dependent(who: str, what: str, request: Request, now: datetime, step: str) -> Dependent:
    return Dependent(who=who, what=_told(what, request, now), step=step if now - request.at < LATELY else "")


def _told(what: str, request: Request, now: datetime) -> str:
    return f"has used {what}, {max(0, int((now - request.at).total_seconds() // 60))} minutes ago from {request.client}"


def _credential(access: Access) -> str:
    return f"{CREDENTIAL}{access.fingerprint}"
