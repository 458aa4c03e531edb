"""Where checks act: one labelled namespace for each run, and everything that they create or stop put back at the end."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from hardway import waiting
from hardway.desired import Answer, Live, PodSettings, Secret, Shown
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Observed
from hardway.remote.fanout import Failure, attempt
from hardway.smoke.kubectl import Kubectl
from hardway.smoke.outage import Outage
from hardway.smoke.removal import LABEL, NAME, NAMESPACES, Leftover, leftovers, pods, remove
from hardway.smoke.verdict import Skipped

PAUSE = 0.2  # seconds between two questions
GONE = 60.0  # seconds that a namespace may take to go; the controller manager lets it rest for 5 first

T = TypeVar("T")
Issue = Callable[[str, str, str | None, bool], Secret]  # authority, common name, organization, whether it has expired


class Actor(Live, Protocol):
    """What a stage stands on; Cluster is one."""

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, host: Host | None = None, token: str | None = None
    ) -> Answer: ...

    def visit(
        self,
        url: str,
        path: str,
        *,
        method: str = "GET",
        body: Mapping[str, Any] | None = None,
        pair: Secret | None = None,
        token: str | None = None,
    ) -> Answer: ...


class ClusterStage:
    """Satisfies Stage on a running cluster. A context: leaving it removes what was made."""

    def __init__(  # noqa: PLR0913 - what a cluster of ours and one of others differ in
        self,
        actor: Actor,
        *,
        observe: Callable[[Host], Observed],
        issue: Issue,
        kubectl: Kubectl | None,
        tell: Callable[[str], None],
        space: str = "",
        settings: PodSettings | None = None,
    ) -> None:
        """`observe` asks a host for its facts and units; `space` is a namespace that is there and stays, else the run makes its own."""
        self._actor = actor
        self._observe = observe
        self._issue = issue
        self._kubectl = kubectl
        self._tell = tell
        self._began: dict[Host, Observed | Failure] = {}
        self._made: list[str] = []  # paths of objects, oldest first
        self._shared: dict[str, Future[Any]] = {}
        self.pods = settings or PodSettings()
        self._space = space
        self._namespace = space
        self._out: list[Outage] = []
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

    def local(self, host: Host, port: int, path: str, *, plain: bool = False) -> Answer:
        return self._actor.local(host, port, path, plain=plain)

    def served(self, host: Host, port: int) -> int:
        return self._actor.served(host, port)

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        return self._actor.shown(host, port, loopback=loopback)

    def issued(self, certificate: str, host: Host) -> int:
        return self._actor.issued(certificate, host)

    def signer(self, authority: str) -> str:
        return self._actor.signer(authority)

    def judged(self, host: Host, port: int) -> int:
        return self._actor.judged(host, port)

    def began(self, host: Host) -> Observed:
        """The host as it was when the run began."""
        seen = self._began[host]
        if isinstance(seen, Failure):
            raise seen.error
        return seen

    def kubectl(self, *argv: str) -> str | None:
        """Standard output of kubectl as the administrator; None if there is none to run."""
        return self._kubectl.run(*argv) if self._kubectl else None

    def forwarded(self, pod: str, port: int) -> AbstractContextManager[int]:
        if self._kubectl is None:
            raise Skipped("there is no kubectl for this machine")
        return self._kubectl.forwarded(self.namespace, pod, port)

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
        return self._actor.visit(url, path, method=method, body=body, pair=pair, token=token)

    def issue(self, authority: str, common_name: str, organization: str | None = None, *, expired: bool = False) -> Secret:
        try:
            return self._issue(authority, common_name, organization, expired)
        except Mistake as mistake:
            raise Skipped(f"no certificate can be issued: {mistake}") from mistake

    def create(self, path: str, body: Mapping[str, Any], *, host: Host | None = None) -> Mapping[str, Any]:
        made = self._post(path, body, host)
        with self._making:
            self._made.append(f"{path}/{made['metadata']['name']}")
        return made

    def once(self, name: str, make: Callable[[], T]) -> T:
        with self._making:
            first = name not in self._shared
            shared: Future[T] = self._shared.setdefault(name, Future())
        if first:
            try:
                shared.set_result(make())
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it too; who comes later tries again
                shared.set_exception(error)
                with self._making:
                    del self._shared[name]
        return shared.result()

    def wait(self, ask: Callable[[], str | None], within: float) -> None:
        why = waiting.until(partial(waiting.answer, ask), within=within, pause=PAUSE, over=self._over)
        if why is not None:
            raise Mistake.at("", f"{'interrupted' if self._over.is_set() else f'after {within:.0f} s'}: {why}")

    @contextmanager
    def stopped(self, host: Host, *units: str, killed: bool = False) -> Iterator[None]:
        outage = Outage(host=host, units=units, killed=killed)
        outage.check(self.run)
        self._out.append(outage)
        try:
            outage.begin(self.run)
            yield
        finally:
            outage.end(self.run)
            self._out.remove(outage)
            self._renew(outage)

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
        for outage in reversed(self._out):
            try:
                outage.end(self.run)
            except Mistake as mistake:
                left.append(f"{outage} is stopped: {mistake}")
        own = [f"{NAMESPACES}/{self._namespace}"] if self._namespace and not self._space else []
        beside = [path for path in reversed(self._made) if not path.startswith(tuple(f"{space}/" for space in own))]
        # The rest goes with its namespace. Its Pods are told at once: when the controllers come to look, they have ended.
        left += remove(self, *beside, *(f"{space}/pods" for space in own), *own)
        self.left = (*left, *([] if left else self._gone([*(path for path in beside if "/pods/" in path), *own])))
        for one in self.left:
            self._tell(f"{one}; `./inv smoke --cleanup` removes what is left")

    def cleanup(self, *, every: bool = False) -> tuple[tuple[Leftover, ...], tuple[Leftover, ...]]:
        """Remove what killed runs have left; that, and what is so young that its run may be going on, which is spared unless `every`."""
        found = leftovers(self, self._space)
        removed = tuple(one for one in found if every or one.over)
        spaces = [one.path.rpartition("/")[2] for one in removed if one.path.startswith(f"{NAMESPACES}/") and not self._space]
        left = remove(self, *pods(self, spaces), *(one.path for one in reversed(removed)))
        self.left = (*left, *self._gone([f"{NAMESPACES}/{space}" for space in spaces]))
        return removed, tuple(one for one in found if one not in removed)

    def _renew(self, outage: Outage) -> None:
        """What the run has restarted itself did not restart by itself."""
        before = self._began.get(outage.host)
        if isinstance(before, Observed):
            now = self._observe(outage.host).units
            self._began[outage.host] = replace(before, units={**before.units, **{unit: now[unit] for unit in outage.units if unit in now}})

    def _post(self, path: str, body: Mapping[str, Any], host: Host | None = None) -> Mapping[str, Any]:
        metadata = body["metadata"]
        labelled = {**body, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **LABEL}}}
        answer = self.request("POST", path, labelled, host=host)
        document: Mapping[str, Any] = answer.json()
        if answer.status == 403 and "exceeded quota" in document.get("message", ""):
            raise Skipped(f"the namespace's quota has no room: {document['message']}")
        if answer.status != 201:
            raise Mistake.at(f"{host.name if host else 'the API'}: POST {path}", f"{answer.status} {document.get('message', '')}")
        return document

    def _gone(self, paths: list[str]) -> list[str]:
        """Wait until what goes slowly is really gone; what is not."""

        def going() -> str | None:
            there = [path for path in paths if self.api(path).status != 404]
            return f"{', '.join(there)} is still going" if there else None

        try:
            self.wait(going, GONE if paths else 0)
        except Mistake as mistake:
            return [str(mistake)]
        return []


def unique(name: str) -> str:
    """A name that no other run has taken."""
    return f"{NAME}-{name}-{secrets.token_hex(3)}"
