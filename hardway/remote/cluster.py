"""The running counterpart of the Inventory: its machines, its API, its etcd, and how each is reached."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from hardway.components import etcd, kube_apiserver
from hardway.desired import Answer, Manifest, Secret, Shown
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.pki import tls
from hardway.pki.credentials import Credentials
from hardway.remote.fanout import Failure, attempt, each
from hardway.remote.http import Client
from hardway.remote.lock import Held
from hardway.remote.machine import Machine
from hardway.remote.pause import Pause
from hardway.remote.tunnel import tunnel

FIELD_MANAGER = "hardway"
SHAKE = 5.0  # seconds that a TLS handshake may take
LOCKS = 16  # hosts that are asked for theirs at the same time
ACCOUNT = "/api/v1/namespaces/kube-system/serviceaccounts/default"
DIRECT = 2.0  # seconds after which a port is taken to be out of reach but over SSH


class Cluster:
    """Asks and, by way of Plans, changes one cluster. Satisfies Live."""

    def __init__(
        self, inventory: Inventory, credentials: Credentials, machines: Mapping[str, Machine], masters: Callable[[], Secret]
    ) -> None:
        """`masters` issues a short-lived certificate of system:masters, for the one binding that has to come first."""
        self._inventory = inventory
        self._credentials = credentials
        self._machines = machines
        self._masters = masters
        self._clients: dict[str, Client] = {}
        self._making = threading.Lock()
        self._far: set[str] = set()  # addresses that do not answer directly

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    @property
    def credentials(self) -> Credentials:
        return self._credentials

    def machine(self, host: Host) -> Machine:
        return self._machines[host.name]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        for machine in self._machines.values():
            machine.close()

    @contextmanager
    def lock(self, hosts: Sequence[Host], doing: str) -> Iterator[dict[str, Held]]:
        """Hold every host's lock; it goes with the connection, so nothing is ever stale (10).

        The first one's before the others', side by side: of two operators one gets on.
        """
        with ExitStack() as stack:

            def take(host: Host) -> Held:
                return stack.enter_context(self.machine(host).lock(doing))

            held = each(hosts[:1], take, 1) | each(hosts[1:], take, LOCKS)
            yield {host.name: lock for host, lock in held.items()}

    @contextmanager
    def paused(self, hosts: Sequence[Host], unit: str) -> Iterator[frozenset[Host]]:
        """A unit stands still on all of these hosts, side by side, or on those where that can be had; never longer than a second."""
        ready = {
            host: pause
            for host, pause in attempt(hosts, lambda host: self.machine(host).pause(unit), LOCKS).items()
            if isinstance(pause, Pause)
        }
        try:
            begun = attempt(ready, lambda host: ready[host].begin(), LOCKS)
            yield frozenset(host for host, result in begun.items() if not isinstance(result, Failure))
        finally:
            for pause in ready.values():
                pause.end()

    # Questions: what gates and checks may use.

    def run(self, host: Host, *argv: str) -> str:
        return self.machine(host).run(*argv)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        return self.request("GET", path, host=host)

    def etcd(self, host: Host, path: str, body: Mapping[str, object] | None = None) -> Answer:
        client = self._client("etcd", lambda: Client(self.dial, self._context("etcd-operator", "etcd")))
        return client.request("GET" if body is None else "POST", f"https://{host.address}:{etcd.CLIENT_PORT}", path, body=body)

    def local(self, host: Host, port: int, path: str, *, plain: bool = False, pair: Secret | None = None) -> Answer:
        """As the administrator, or over a connection of its own by whom a certificate names."""
        if pair:
            client = self._loopback(pair)
            try:
                return client.request("GET", f"https://{host.name}:{port}", path)
            finally:
                client.close()
        return self._client("local", self._loopback).request("GET", f"http{'' if plain else 's'}://{host.name}:{port}", path)

    def served(self, host: Host, port: int) -> int:
        return self.shown(host, port).serial

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        context = tls.look(self._credentials.operator("etcd-operator" if port in {etcd.CLIENT_PORT, etcd.PEER_PORT} else "admin"))
        try:
            there = tunnel(self.machine(host).dial(port)) if loopback else self.dial(str(host.address), port, DIRECT)
            there.settimeout(SHAKE)
            with context.wrap_socket(there) as end:
                return tls.shown(end.getpeercert(binary_form=True) or b"")
        except OSError as error:
            raise Mistake.at(f"{host.name}:{port}", f"no certificate is shown: {error.strerror or error}") from error

    def issued(self, certificate: str, host: Host) -> int:
        return self._credentials.serial(certificate, host)

    def signer(self, authority: str) -> str:
        return self._credentials.trusts[authority].signer.common_name

    def judged(self, host: Host, port: int) -> int:
        return self.visit(f"https://{host.address}:{port}", "/healthz", token=self.token()).status

    def token(self, host: Host | None = None) -> str:
        """One that an API server, or a certain one, has just signed for an account that may do nothing; good for ten minutes."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        answer = self.request("POST", f"{ACCOUNT}/token", body, host=host)
        if answer.status != 201:
            raise Mistake.at(host.name if host else self._inventory.server, f"a token is refused: {answer.status}", "run it again")
        return str(answer.json()["status"]["token"])

    # Requests that may change the cluster.

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, host: Host | None = None, token: str | None = None
    ) -> Answer:
        """Any request to the API, to one host's instance or through the endpoint: as the administrator, or with a token."""
        if token is None:
            return self._administrator().request(method, self._base(host), path, body=body)
        client = self._client("token", lambda: Client(self.dial, tls.client(trusted=self._bundle("kubernetes"))))
        return client.request(method, self._base(host), path, body=body, headers={"Authorization": f"Bearer {token}"})

    def visit(
        self,
        url: str,
        path: str,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
        pair: Secret | None = None,
        token: str | None = None,
    ) -> Answer:
        """A request over a connection of its own, tried once: by whom a certificate or a token names, or by nobody in particular."""
        authority = "etcd" if urlsplit(url).port in {etcd.CLIENT_PORT, etcd.PEER_PORT} else "kubernetes"
        client = Client(self.dial, tls.client(trusted=self._bundle(authority), pair=pair), retries=0)
        headers: dict[bytes | str, bytes | str] = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return client.request(method, url, path, body=body, headers=headers)
        finally:
            client.close()

    def apply(self, manifest: Manifest, *, dry_run: bool, masters: bool = False, host: Host | None = None) -> Answer:
        """Server-side apply with our own field manager."""
        query = f"fieldManager={FIELD_MANAGER}&force=true" + ("&dryRun=All" if dry_run else "")
        headers: dict[bytes | str, bytes | str] = {"Content-Type": "application/apply-patch+yaml"}  # JSON is YAML
        client = self._client("masters", self._bootstrap) if masters else self._administrator()
        return client.request("PATCH", self._base(host), f"{manifest.path}?{query}", body=manifest.object, headers=headers)

    def _administrator(self) -> Client:
        return self._client("admin", lambda: Client(self.dial, self._context("admin", "kubernetes")))

    def _bootstrap(self) -> Client:
        return Client(self.dial, tls.client(trusted=self._bundle("kubernetes"), pair=self._masters()))

    def _base(self, host: Host | None) -> str:
        return kube_apiserver.url(host) if host else self._inventory.server

    # Connections.

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        """A connection to an address of the cluster: directly if it answers, else over SSH (14). Raises OSError."""
        if address not in self._far:
            try:
                return socket.create_connection((address, port), timeout=min(timeout, DIRECT))
            except ConnectionRefusedError:
                raise  # an answer: nobody listens
            except OSError:
                self._far.add(address)
        here = next((h for h in self._inventory.hosts if str(h.address) == address), None) or self._inventory.on("controller")[0]
        return tunnel(self.machine(here).dial(port, address))

    def _loopback(self, pair: Secret | None = None) -> Client:
        by_name = {host.name: host for host in self._inventory.hosts}

        def dial(name: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG001 - the interface of Client
            return tunnel(self.machine(by_name[name]).dial(port))

        return Client(dial, tls.client(trusted=self._bundle("kubernetes"), pair=pair or self._credentials.operator("admin")), "localhost")

    def _context(self, certificate: str, authority: str) -> ssl.SSLContext:
        return tls.client(trusted=self._bundle(authority), pair=self._credentials.operator(certificate))

    def _bundle(self, authority: str) -> str:
        return self._credentials.trusts[authority].bundle

    def _client(self, name: str, make: Callable[[], Client]) -> Client:
        with self._making:
            if name not in self._clients:
                self._clients[name] = make()
            return self._clients[name]
