"""A daemon comes by a certificate of its own: a token for one host, the one request that fits it approved, the token gone again."""

from __future__ import annotations

import hashlib
import secrets
import string
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hardway.desired import Own
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.observed import Asked
from hardway.pki import own as own_certificate
from hardway.remote.cluster import Cluster
from hardway.remote.protocol import Apply, Move, Removal
from hardway.render import LABEL, OWNER

Tell = Callable[[str], None]

SECRETS = "/api/v1/namespaces/kube-system/secrets"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
LETTERS = string.ascii_lowercase + string.digits
LIFE = timedelta(minutes=15)  # of a token that nobody takes away
WITHIN = 240.0  # seconds in which the daemon has to have its certificate: its image, its runtime and a busy machine may come first
PAUSE = 0.5  # seconds between two questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bootstrap token: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/."""

    name: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls) -> Token:
        name, secret = ("".join(secrets.choice(LETTERS) for _ in range(size)) for size in (6, 16))
        return cls(name=name, secret=secret)

    @property
    def user(self) -> str:
        """As whom the API server knows who shows it."""
        return f"system:bootstrap:{self.name}"

    @property
    def path(self) -> str:
        return f"{SECRETS}/bootstrap-token-{self.name}"

    @property
    def text(self) -> bytes:
        return f"{self.name}.{self.secret}".encode()

    def document(self, own: Own, host: Host, until: datetime) -> dict[str, Any]:
        """As the API server keeps it."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"bootstrap-token-{self.name}", "namespace": "kube-system", "labels": {LABEL: OWNER}},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": self.name,
                "token-secret": self.secret,
                "description": f"for {own.name(host)} alone",
                "expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "usage-bootstrap-authentication": "true",
                "auth-extra-groups": own.groups,
            },
        }


def admit(cluster: Cluster, host: Host, own: Own, start: Callable[[], None], tell: Tell) -> None:
    """Start a daemon that has to ask for its certificate, and see to it that it is given that one and no other."""
    with _token(cluster, host, own, tell) as token:
        # What it has kept is no use to it; with it, it would ask as whom that names.
        cluster.machine(host).run("rm", "-f", str(own.path))
        start()
        _answer(cluster, host, own, token)
    tell(f"{host.name}: has its own certificate for {own.name(host)}")


@contextmanager
def _token(cluster: Cluster, host: Host, own: Own, tell: Tell) -> Iterator[Token]:
    """In the cluster and on the host, for as long as the context lasts; never in an argument, a log or a plan."""
    token, machine = Token.new(), cluster.machine(host)
    now = cluster.api("/version").date  # by the clock of whoever judges it
    document = token.document(own, host, datetime.fromtimestamp(now, UTC) + LIFE)
    answer = cluster.request("POST", SECRETS, document)
    if answer.status != 201:
        raise Mistake.at(host.name, f"the API server answers {answer.status} to a bootstrap token for it", "run ./inv push again")
    try:
        there = machine.observe(frozenset({own.token})).files.get(own.token)  # of a push that was cut short
        after = hashlib.sha256(token.text).hexdigest()
        move = Move(path=own.token, owner="root:root", mode=0o600, before=there.sha256 if there else None, after=after)
        machine.apply(Apply(moves=(move,), contents=(token.text,)))
        try:
            yield token
        finally:
            _quietly(lambda: machine.apply(Apply(removals=(Removal(path=own.token, before=after),))), f"{host.name}: {own.token}", tell)
    finally:
        _quietly(lambda: cluster.request("DELETE", token.path), f"secret/kube-system/bootstrap-token-{token.name}", tell)


def _quietly(take_away: Callable[[], object], what: str, tell: Tell) -> None:
    """What could not be taken away is worth nothing soon, and in the next plan; what went wrong before is what has to be told."""
    try:
        take_away()
    except Mistake as mistake:
        tell(f"{what} is still there, and the next push takes it away: {mistake}")


def _answer(cluster: Cluster, host: Host, own: Own, token: Token) -> None:
    """Approve what fits, once; deny anything else that was asked with this token, and stop. Until the host has its certificate."""
    pause, ends, approved, last = threading.Event(), time.monotonic() + WITHIN, "", "it has not asked yet"
    while time.monotonic() < ends:
        try:
            for request in _requests(cluster, token):
                approved = _judged(cluster, host, own, request, approved)
            last = _lacks(cluster, host, own) if approved else last
        except Mistake as mistake:  # it may pass: a server that restarts
            last = str(mistake)
        except RefusedError as refused:
            raise Mistake.at(host.name, str(refused), "find out there who asked, before you push again") from None
        if not last:
            return
        pause.wait(PAUSE)
    raise Mistake.at(host.name, f"it has no certificate of its own after {WITHIN:.0f} s: {last}", "see its journal there, and push again")


class RefusedError(Exception):
    """What was asked is not what the token was made for; nothing is tried again."""


def _judged(cluster: Cluster, host: Host, own: Own, request: Mapping[str, Any], approved: str) -> str:
    """The name of the request that is approved, if one is by now."""
    name = request["metadata"]["name"]
    if name == approved:
        failed = [one.get("message", "") for one in _conditions(request) if one["type"] == "Failed"]
        if failed:
            raise RefusedError(f"its request is approved, and the signer refuses it: {failed[0]}")
        return approved
    why = own_certificate.refusal(own, host, request["spec"]) or ("it has asked once already" if approved else "")
    if why:
        _decide(cluster, request, "Denied", why)
        raise RefusedError(f"what was asked with its token, {name}, is denied: {why}")
    return name if _decide(cluster, request, "Approved", f"it is what {host.name} was given a token for") else approved


def _requests(cluster: Cluster, token: Token) -> list[Mapping[str, Any]]:
    """All that was asked with a token, whatever it was asked for."""
    answer = cluster.api(REQUESTS)
    if answer.status != 200:
        raise Mistake.at("", f"the API server answers {answer.status} to a question for requests")
    return [one for one in answer.json()["items"] if one["spec"].get("username") == token.user]


def _conditions(request: Mapping[str, Any]) -> list[dict[str, str]]:
    return list(request.get("status", {}).get("conditions", ()))


def _decide(cluster: Cluster, request: Mapping[str, Any], verdict: str, why: str) -> bool:
    """Whether it is decided so; not if it has changed meanwhile."""
    name = request["metadata"]["name"]
    condition = {"type": verdict, "status": "True", "reason": "KubeletBootstrap", "message": why}
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        **request,
        "status": {**request.get("status", {}), "conditions": [*_conditions(request), condition]},
    }
    answer = cluster.request("PUT", f"{REQUESTS}/{name}/approval", body)
    if answer.status not in {200, 409}:
        raise Mistake.at(name, f"the API server answers {answer.status} to its approval")
    return answer.status == 200


def _lacks(cluster: Cluster, host: Host, own: Own) -> str:
    """Why the host has no certificate yet; nothing once it has."""
    seen = cluster.machine(host).observe(frozenset(), (), Asked(certificates=(own.path,)))
    now = datetime.fromtimestamp(seen.facts.clock, UTC)
    trusted = cluster.credentials.trusts[own.authority].signer.certificate
    return own_certificate.lacking(own, host, seen.certificates.get(own.path), trusted, now)
