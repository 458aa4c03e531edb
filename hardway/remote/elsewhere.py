"""A cluster that is known by a kubeconfig alone: kubectl reaches it, with all that its kubeconfigs can say."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from hardway.desired import Answer, Secret, Shown
from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Networks, Versions
from hardway.remote.http import Client

NOWHERE = IPv4Address("0.0.0.0")  # noqa: S104 - no address is known, and nobody listens on this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Which cluster, as whom: what `kubectl config view --minify` says."""

    name: str
    server: str
    user: str  # its name in the kubeconfig; who that is, the API server says
    namespace: str

    @classmethod
    def read(cls, kubectl: Path, kubeconfig: Path, context: str = "") -> Context:
        """The one that is named, else the current one."""
        argv = [*_argv(kubectl, kubeconfig, context), "config", "view", "--minify", "--output=json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            raise Mistake.at(str(kubeconfig), _last(done.stderr))
        seen = json.loads(done.stdout)
        if not seen["contexts"] or not seen["clusters"]:
            raise Mistake.at(str(kubeconfig), "it has no current context", "name one by --context")
        (found,), (cluster,) = seen["contexts"], seen["clusters"]
        namespace = found["context"].get("namespace", "default")
        return cls(name=found["name"], server=cluster["cluster"]["server"], user=found["context"].get("user", ""), namespace=namespace)


class Elsewhere:
    """Asks one API server over `kubectl proxy`. Satisfies Live as far as there are no hosts to ask."""

    def __init__(self, context: Context, client: Client) -> None:
        self._client = client
        self._inventory = _inventory(context)

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    def meet(self) -> str:
        """Who we are, as the API server sees us; a Mistake if it does not let us in."""
        version = self.api("/version")
        if version.status != 200:
            raise Mistake.at(self._inventory.server, f"it answers {version.status}: {_last(version.body.decode(errors='replace'))}")
        versions = Versions(kubernetes=version.json()["gitVersion"].removeprefix("v"))
        self._inventory = replace(self._inventory, versions=versions)
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        if answer.status != 201:
            raise Mistake.at(self._inventory.server, f"it does not say who we are: {answer.status}")
        return str(answer.json()["status"]["userInfo"]["username"])

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        return self.request("GET", path, host=host)

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, host: Host | None = None, token: str | None = None
    ) -> Answer:
        if host or token:
            self._no_hosts()
        return self._client.request(method, "http://localhost", path, body=body)

    def run(self, host: Host, *argv: str) -> str:  # noqa: ARG002 - as Live has it
        self._no_hosts()

    def etcd(self, host: Host, path: str, body: Mapping[str, object] | None = None) -> Answer:  # noqa: ARG002 - the same
        self._no_hosts()

    def local(self, host: Host, port: int, path: str, *, plain: bool = False) -> Answer:  # noqa: ARG002 - the same
        self._no_hosts()

    def served(self, host: Host, port: int) -> int:  # noqa: ARG002 - the same
        self._no_hosts()

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:  # noqa: ARG002 - the same
        self._no_hosts()

    def issued(self, certificate: str, host: Host) -> int:  # noqa: ARG002 - the same
        self._no_hosts()

    def signer(self, authority: str) -> str:  # noqa: ARG002 - the same
        self._no_hosts()

    def judged(self, host: Host, port: int) -> int:  # noqa: ARG002 - the same
        self._no_hosts()

    def visit(
        self,
        url: str,  # noqa: ARG002 - the same
        path: str,  # noqa: ARG002 - the same
        *,
        method: str = "GET",  # noqa: ARG002 - the same
        body: Mapping[str, Any] | None = None,  # noqa: ARG002 - the same
        pair: Secret | None = None,  # noqa: ARG002 - the same
        token: str | None = None,  # noqa: ARG002 - the same
    ) -> Answer:
        self._no_hosts()

    def _no_hosts(self) -> NoReturn:
        raise Mistake.at(self._inventory.cluster, "only its API is known, and none of its hosts")


@contextmanager
def elsewhere(kubectl: Path, kubeconfig: Path, context: Context) -> Iterator[Elsewhere]:
    """Reach a cluster for as long as the context lasts, over a socket that only we may open."""
    with tempfile.TemporaryDirectory(prefix="hardway-") as directory:
        path = f"{directory}/api"
        argv = [*_argv(kubectl, kubeconfig, context.name), "proxy", f"--unix-socket={path}", "--append-server-path"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as proxy:
            try:
                if not (proxy.stdout and proxy.stdout.readline()):  # "Starting to serve on …"
                    raise Mistake.at(str(kubeconfig), _last(proxy.stderr.read() if proxy.stderr else ""))
                client = Client(lambda *_: _unix(path), ssl.create_default_context())
                yield Elsewhere(context, client)
                client.close()
            finally:
                proxy.terminate()


def _unix(path: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    return one


def _argv(kubectl: Path, kubeconfig: Path, context: str) -> list[str]:
    return [str(kubectl), f"--kubeconfig={kubeconfig}", *([f"--context={context}"] if context else [])]


def _inventory(context: Context) -> Inventory:
    """Of what an inventory says only this is known of it."""
    url = urlsplit(context.server)
    host = url.hostname or "localhost"
    return Inventory(
        cluster=context.name,
        hosts=(),
        networks=Networks(service_cidr=IPv4Network(NOWHERE), pod_cidr=IPv4Network(NOWHERE)),
        endpoint=Endpoint(loadbalancer="external", address=NOWHERE, port=url.port or 443, name=f"[{host}]" if ":" in host else host),
    )


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "kubectl said nothing"
