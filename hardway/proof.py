"""That a renewed certificate is in use: seen where it shows, within a deadline, never assumed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

from hardway import waiting
from hardway.components import ALL, etcd, kube_apiserver, kubelet
from hardway.desired import Pickup, Secret, Serving
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.pki import tls
from hardway.pki.declared import Declarations
from hardway.pki.request import requests
from hardway.remote.cluster import Cluster
from hardway.remote.http import Client

Tell = Callable[[str], None]

AT_ONCE = 6  # sshd lets ten sessions run over one connection
PAUSE = 0.2  # seconds between two looks at a port
SLOWLY = 5.0  # the same at a log
STIRRED = 1.0  # seconds until kubelets have to ask again
SLACK = 10.0  # seconds beyond what the reader takes by itself, on a machine that is busy
AUDIT = "/var/log/kube-apiserver/audit.log"
CREDENTIAL = "X509SHA256="  # and a fingerprint: how that log names a certificate
NOBODY = "nobody"
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
# Does the log of requests name this credential, by that client? Ours, that shows it before, is another one.
LOOKED_FOR = 'grep -F -- "$1" "$2" | grep -qF -- "$3" && echo yes || :'


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """A certificate of a host that is to be proved."""

    certificate: str
    authority: str
    common_name: str
    client: bool  # a client shows it
    at_endpoint: bool  # and there: any API server may be the one; else to its own host's
    host: Host
    pair: Secret
    reader: str
    pickup: Pickup

    def __str__(self) -> str:
        return f"{self.certificate} on {self.host.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How it was proved, or why not."""

    renewed: Renewed
    how: str = ""
    failure: str = ""


def renewed(cluster: Cluster, declarations: Declarations, files: Iterable[tuple[str, PurePosixPath]]) -> tuple[Renewed, ...]:
    """The certificates that lie in these files, by host and path."""
    hosts = {host.name: host for host in cluster.inventory.hosts}
    by_authority = {authority.authority: authority for authority in declarations.wanted(cluster.inventory)}
    wanted = {
        (request.host, by_authority[request.authority].certificates[request.certificate].path): request
        for request in requests(declarations, cluster.inventory)
    }
    found = []
    for name, path in files:
        request = wanted[name, path]
        declared = by_authority[request.authority].certificates[request.certificate]
        file = next(file for file in cluster.credentials.files(hosts[name]) if file.path == path)
        if isinstance(file.content, Secret):
            found.append(
                Renewed(
                    certificate=request.certificate,
                    authority=request.authority,
                    common_name=request.common_name,
                    client="client" in request.usages,
                    at_endpoint=declared.role == "worker",
                    host=hosts[name],
                    pair=file.content,
                    reader=file.uses[0].reader.removesuffix(".service"),
                    pickup=file.uses[0].pickup,
                )
            )
    return tuple(found)


def prove(cluster: Cluster, several: Sequence[Renewed], tell: Tell, *, wait: bool = True) -> tuple[Proof, ...]:
    """Prove each; without `wait` a reader that looks only every few minutes is not waited for."""
    ask = _Asking(cluster=cluster, tell=tell, wait=wait)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        try:
            proofs = [pool.submit(ask.proved, one) for one in several]
            if wait:
                polled = [(one, proof) for one, proof in zip(several, proofs, strict=True) if one.pickup is Pickup.POLL]
                ask.stir({one.host: proof for one, proof in polled if one.reader == kubelet.COMPONENT.name})
            return tuple(proof.result() for proof in proofs)
        except BaseException:  # Ctrl-C: nobody waits on
            ask.over.set()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """One run of proofs."""

    cluster: Cluster
    tell: Tell
    wait: bool
    over: threading.Event = field(default_factory=threading.Event)  # the run was interrupted

    def proved(self, one: Renewed) -> Proof:
        serving = next((s for component in ALL for s in component.serves if s.certificate == one.certificate), None)
        try:
            how = self._is_served(one, serving) if serving else _is_accepted(self.cluster, one)
            if one.pickup is Pickup.POLL:
                how += self._is_used(one)
        except Mistake as mistake:
            return Proof(renewed=one, failure="; ".join(str(finding) for finding in mistake.findings))
        return Proof(renewed=one, how=how)

    def _is_served(self, one: Renewed, serving: Serving) -> str:
        wanted = self.cluster.issued(one.certificate, one.host)

        def other() -> str | None:
            shown = self.cluster.shown(one.host, serving.port, loopback=serving.loopback)
            return None if shown.serial == wanted else f"port {serving.port} shows {shown.serial:x}, issued is {wanted:x}"

        spent = until(other, within=_within(one), pause=PAUSE, where=str(one), over=self.over)
        return f"served on {serving.port} " + ("at once" if spent < 1 else f"after {spent:.0f} s")

    def _is_used(self, one: Renewed) -> str:
        """A client that looks every five minutes: the API servers write down with which certificate each request came."""
        if not self.wait:
            return f"; {one.reader} takes it within five minutes, which was not waited for"
        credential = f"{CREDENTIAL}{tls.fingerprint(one.pair)}"

        words = ("sh", "-c", LOOKED_FOR, "sh", credential, AUDIT, f'"userAgent":"{one.reader}/')
        asked = self.cluster.inventory.on("controller") if one.at_endpoint else (one.host,)

        def unseen() -> str | None:
            seen = any("yes" in self.cluster.run(host, *words) for host in asked)
            return None if seen else f"{one.reader} has sent no request with it, by {AUDIT} of {', '.join(host.name for host in asked)}"

        self.tell(f"{one}: waiting until {one.reader} looks at the file, which it does every five minutes")
        spent = until(unseen, within=_within(one), pause=SLOWLY, where=str(one), over=self.over)
        return f", used by {one.reader} after {spent:.0f} s"

    def stir(self, kubelets: Mapping[Host, Future[Proof]]) -> None:
        """Have each kubelet ask the API every second, until it is proved: who waits for its answer when it takes its certificate gets 401.

        A client whose bundle has changed since its start makes a handshake for a request that comes 90 seconds after the last handshake,
        and takes its certificate there; client-go then closes every connection, also that one (transport/ca_rotation.go, cert_rotation.go).
        """
        while any(not proof.done() for proof in kubelets.values()) and not self.over.wait(STIRRED):
            for host in (host for host, proof in kubelets.items() if not proof.done()):
                with suppress(Mistake):
                    self.cluster.judged(host, kubelet.PORT)


def _is_accepted(cluster: Cluster, one: Renewed) -> str:
    """Show it to the server that it is for, as its reader will."""
    if not one.client:
        return "on the host"
    trusted = cluster.credentials.trusts["etcd" if one.authority == "etcd" else "kubernetes"].bundle
    client = Client(cluster.dial, tls.client(trusted=trusted, pair=one.pair))
    try:
        return _at_etcd(client, one) if one.authority == "etcd" else _at_api(cluster, client, one)
    finally:
        client.close()


def _at_etcd(client: Client, one: Renewed) -> str:
    answer = client.request("GET", f"https://{one.host.address}:{etcd.CLIENT_PORT}", "/health")
    if answer.status != 200:
        raise Mistake.at(str(one), f"etcd answers {answer.status} to it")
    return f"accepted by etcd; {one.reader} takes it at its next handshake"


def _at_api(cluster: Cluster, client: Client, one: Renewed) -> str:
    """Who it is, by the API server that its reader asks. The front proxy's speaks for others: it is believed, or it is nobody."""
    server = cluster.inventory.server if one.at_endpoint else kube_apiserver.url(one.host)
    proxy = one.authority == "front-proxy"
    name = "hardway:probe" if proxy else one.common_name
    who = seen_as(client, server, named=name if proxy else "")
    if who != name:
        raise Mistake.at(str(one), f"to the API server it is {who}, not {name}")
    takes = f"; {one.reader} takes it at its next handshake" if one.pickup is Pickup.HANDSHAKE else ""
    return f"accepted as {name}{takes}"


def seen_as(client: Client, server: str, *, named: str = "") -> str:
    """Who a client is to an API server, by the name that this has for it; a front proxy says in whose name it asks."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    headers: dict[bytes | str, bytes | str] = {"X-Remote-User": named} if named else {}
    answer = client.request("POST", server, REVIEW, body=body, headers=headers)
    return str(answer.json()["status"]["userInfo"]["username"]) if answer.status == 201 else f"{NOBODY} ({answer.status})"


def _within(one: Renewed) -> float:
    return SLACK + (one.pickup.within if one.pickup.within != float("inf") else 0.0)


def until(ask: Callable[[], str | None], *, within: float, pause: float, where: str, over: threading.Event) -> float:
    """Ask until the answer is None; the seconds that it took. A Mistake with the last answer if the time is over, or the run."""
    began = time.monotonic()
    why = waiting.until(partial(waiting.answer, ask), within=within, pause=pause, over=over)
    spent = time.monotonic() - began
    if why is not None:
        raise Mistake.at(where, f"after {spent:.0f} s: {why}")
    return spent
