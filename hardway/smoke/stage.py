"""Where checks act: one labelled namespace for each run, and everything that they create or stop put back at the end."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from hardway.desired import Answer, Live, Shown
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Observed
from hardway.remote.fanout import Failure, attempt

NAME = "hardway-smoke"
LABEL = {"app.kubernetes.io/managed-by": NAME}
NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
AT_ONCE_AND_FOR_ALL = {"gracePeriodSeconds": 0}  # no kubelet answers for a Pod on a Node object of our own
PAUSE = 0.2  # seconds between two questions
GONE = 60.0  # seconds that a namespace may take to go; the controller manager lets it rest for 5 first


class Actor(Live, Protocol):
    """What a stage stands on; Cluster is one."""

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, host: Host | None = None, token: str | None = None
    ) -> Answer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """The cluster's own kubectl, as the administrator."""

    program: Path
    kubeconfig: Path

    def run(self, *argv: str) -> str:
        """Its standard output; a Mistake with what it said if it fails."""
        options = ("--kubeconfig", str(self.kubeconfig), "--request-timeout=30s")
        environment = {**os.environ, "KUBECACHEDIR": str(self.kubeconfig.parent / "kubectl-cache")}
        done = subprocess.run([self.program, *options, *argv], capture_output=True, text=True, timeout=60, env=environment, check=False)
        if done.returncode:
            raise Mistake.at("kubectl", f"`kubectl {' '.join(argv)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


class ClusterStage:
    """Satisfies Stage on a running cluster. A context: leaving it removes what was made."""

    def __init__(self, actor: Actor, *, observe: Callable[[Host], Observed], kubectl: Kubectl | None, tell: Callable[[str], None]) -> None:
        """`observe` asks a host for its facts and units; without kubectl the checks that need it are skipped."""
        self._actor = actor
        self._observe = observe
        self._kubectl = kubectl
        self._tell = tell
        self._began: Mapping[Host, Observed | Failure] = {}
        self._made: list[str] = []  # paths of objects, oldest first
        self._namespace = ""
        self._stopped: list[tuple[Host, str]] = []
        self._making = threading.Lock()
        self._over = threading.Event()
        self.left: tuple[str, ...] = ()  # what could not be put back

    # Questions, as Live has them.

    @property
    def inventory(self) -> Inventory:
        return self._actor.inventory

    def run(self, host: Host, *argv: str) -> str:
        return self._actor.run(host, *argv)

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        return self._actor.api(path, host=host)

    def etcd(self, host: Host, path: str, body: Mapping[str, object] | None = None) -> Answer:
        return self._actor.etcd(host, path, body)

    def local(self, host: Host, port: int, path: str) -> Answer:
        return self._actor.local(host, port, path)

    def served(self, host: Host, port: int) -> int:
        return self._actor.served(host, port)

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        return self._actor.shown(host, port, loopback=loopback)

    def issued(self, certificate: str, host: Host) -> int:
        return self._actor.issued(certificate, host)

    def signer(self, authority: str) -> str:
        return self._actor.signer(authority)

    def began(self, host: Host) -> Observed:
        """The host as it was when the run began."""
        seen = self._began[host]
        if isinstance(seen, Failure):
            raise seen.error
        return seen

    def kubectl(self, *argv: str) -> str | None:
        """Standard output of kubectl as the administrator; None if there is none to run."""
        return self._kubectl.run(*argv) if self._kubectl else None

    # What a check may do besides asking.

    @property
    def namespace(self) -> str:
        with self._making:
            if not self._namespace:
                made = self._post(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": f"{NAME}-"}})
                self._namespace = made["metadata"]["name"]
            return self._namespace

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, host: Host | None = None, token: str | None = None
    ) -> Answer:
        return self._actor.request(method, path, body, host=host, token=token)

    def create(self, path: str, body: Mapping[str, Any], *, host: Host | None = None) -> Mapping[str, Any]:
        made = self._post(path, body, host)
        with self._making:
            self._made.append(f"{path}/{made['metadata']['name']}")
        return made

    def wait(self, ask: Callable[[], str | None], within: float) -> None:
        deadline = time.monotonic() + within
        while True:
            try:
                answer = ask()
            except Mistake as mistake:
                answer = str(mistake)
            if answer is None:
                return
            if time.monotonic() > deadline:
                raise Mistake.at("", f"after {within:.0f} s: {answer}")
            if self._over.wait(PAUSE):
                raise Mistake.at("", f"interrupted: {answer}")

    @contextmanager
    def stopped(self, host: Host, unit: str) -> Iterator[None]:
        what = (host, unit)
        self._stopped.append(what)
        try:
            self.run(host, "systemctl", "stop", unit)
            yield
        finally:
            self.run(host, "systemctl", "start", unit)
            self._stopped.remove(what)

    def give_up(self) -> None:
        """Whoever waits on this stage stops waiting."""
        self._over.set()

    # The run's begin and end.

    def __enter__(self) -> Self:
        hosts = self.inventory.hosts
        self._began = attempt(hosts, self._observe, len(hosts))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over = threading.Event()  # also after an interruption what was made is waited for until it has gone
        left = []
        for host, unit in reversed(self._stopped):
            try:
                self.run(host, "systemctl", "start", unit)
            except Mistake as mistake:
                left.append(f"{unit} on {host.name} is stopped: {mistake}")
        left += self._remove(*reversed(self._made), *([f"{NAMESPACES}/{self._namespace}"] if self._namespace else []))
        if self._namespace and not left:
            left += self._gone([self._namespace])
        self.left = tuple(left)
        for one in left:
            self._tell(f"{one}; `./inv smoke --cleanup` removes what is left")

    def cleanup(self) -> tuple[str, ...]:
        """Remove what killed runs have left in the cluster; the names of it."""
        selector = "labelSelector=" + ",".join(f"{key}%3D{value}" for key, value in LABEL.items())
        spaces = self._listed(f"{NAMESPACES}?{selector}")
        nodes = self._listed(f"{NODES}?{selector}")
        pods = [f"{NAMESPACES}/{space}/pods/{pod}" for space in spaces for pod in self._listed(f"{NAMESPACES}/{space}/pods")]
        left = self._remove(*pods, *(f"{NODES}/{node}" for node in nodes), *(f"{NAMESPACES}/{space}" for space in spaces))
        self.left = (*left, *self._gone(spaces))
        return (*(f"namespace/{space}" for space in spaces), *(f"node/{node}" for node in nodes))

    def _post(self, path: str, body: Mapping[str, Any], host: Host | None = None) -> Mapping[str, Any]:
        metadata = body["metadata"]
        labelled = {**body, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **LABEL}}}
        answer = self.request("POST", path, labelled, host=host)
        document: Mapping[str, Any] = answer.json()
        if answer.status != 201:
            raise Mistake.at(f"{host.name if host else 'the API'}: POST {path}", f"{answer.status} {document.get('message', '')}")
        return document

    def _remove(self, *paths: str) -> list[str]:
        """Delete objects; those that are neither gone nor going."""

        def refused(path: str) -> str | None:
            try:
                answer = self.request("DELETE", path, AT_ONCE_AND_FOR_ALL)
            except Mistake as mistake:
                return str(mistake)
            # 409: a namespace that is already going says so.
            return None if answer.status in {200, 202, 404, 409} else f"the API server answers {answer.status}"

        return [f"{path} is still there: {reason}" for path in paths if (reason := refused(path))]

    def _gone(self, spaces: list[str]) -> list[str]:
        """Wait until namespaces are really gone; those that are not."""

        def going() -> str | None:
            there = [space for space in spaces if self.api(f"{NAMESPACES}/{space}").status != 404]
            return f"{', '.join(there)} is still going" if there else None

        try:
            self.wait(going, GONE)
        except Mistake as mistake:
            return [f"namespaces: {mistake}"]
        return []

    def _listed(self, path: str) -> list[str]:
        answer = self.api(path)
        if answer.status != 200:
            raise Mistake.at("the API", f"it answers {answer.status} to GET {path}")
        return [item["metadata"]["name"] for item in answer.json()["items"]]


def unique(name: str) -> str:
    """A name that no other run has taken."""
    return f"{NAME}-{name}-{secrets.token_hex(3)}"
