"""What may be asked of a running cluster, and what a check may do besides asking."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hardway.desired.files import Secret
    from hardway.desired.pods import PodSettings
    from hardway.inventory import Host, Inventory
    from hardway.observed import Observed

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply to a question over HTTP."""

    status: int
    body: bytes
    serial: int = 0  # of the certificate that the server showed
    date: float = 0.0  # the server's own clock, seconds since the epoch, to the second

    def json(self) -> Any:
        """The body, parsed; the caller knows the shape of what it asked for."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The certificate that a server has shown, whoever signed it and even if it has expired."""

    serial: int
    issuer: str  # common name
    not_after: datetime


class Live(Protocol):
    """Questions to a running cluster; it cannot change anything, so a gate cannot (3)."""

    @property
    def inventory(self) -> Inventory: ...

    def run(self, host: Host, *argv: str) -> str:
        """Standard output of a command on a host; raises Mistake if it fails."""
        ...

    def api(self, path: str, *, host: Host | None = None) -> Answer:
        """GET as the administrator from one host's API server, or through the endpoint."""
        ...

    def etcd(self, host: Host, path: str, body: Mapping[str, object] | None = None) -> Answer:
        """Ask a member's HTTP gateway (2379) as `etcdctl`; with a body it is a POST."""
        ...

    def local(self, host: Host, port: int, path: str, *, plain: bool = False) -> Answer:
        """GET from a daemon that listens on a host's loopback, such as 10257; by plain HTTP from one that has no certificate."""
        ...

    def served(self, host: Host, port: int) -> int:
        """The serial number of the certificate that is served there."""
        ...

    def shown(self, host: Host, port: int, *, loopback: bool = False) -> Shown:
        """The certificate that is shown there, not verified: one that is wrong is seen, not refused."""
        ...

    def issued(self, certificate: str, host: Host) -> int:
        """The serial number of a declared certificate, as it is in state/."""
        ...

    def signer(self, authority: str) -> str:
        """The common name of the generation that signs for an authority."""
        ...

    def judged(self, host: Host, port: int) -> int:
        """The status that a daemon gives to an account that may do nothing: it has to ask the API who that is, and what it may."""
        ...


class Stage(Live, Protocol):
    """What a check may do besides asking: create and stop, all of it put back by the stage."""

    @property
    def pods(self) -> PodSettings:
        """How Pods have to be, for this cluster to run them."""
        ...

    @property
    def namespace(self) -> str:
        """The run's own namespace; made at the first use, removed at the end."""
        ...

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, host: Host | None = None, token: str | None = None
    ) -> Answer:
        """Any request to the API, as the administrator or with a bearer token."""
        ...

    def create(self, path: str, body: Mapping[str, Any], *, host: Host | None = None) -> Mapping[str, Any]:
        """POST an object, to one host's API server or through the endpoint, and remember to delete it."""
        ...

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several checks of a run share: made for the first that asks, while the others wait."""
        ...

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
        ...

    def issue(self, authority: str, common_name: str, organization: str | None = None, *, expired: bool = False) -> Secret:
        """A client certificate and its key, good for minutes and kept in memory; Skipped where the authority's key is not at hand."""
        ...

    def began(self, host: Host) -> Observed:
        """The host as it was when the run began; a unit that the run itself has stopped, as it was started again."""
        ...

    def kubectl(self, *argv: str) -> str | None:
        """Standard output of kubectl as the administrator; None if there is none to run."""
        ...

    def forwarded(self, pod: str, port: int) -> AbstractContextManager[int]:
        """A port of this machine that kubectl carries to one of a Pod, for as long as the context lasts; Skipped if there is no kubectl."""
        ...

    def give_up(self) -> None:
        """Whoever waits on this stage stops waiting: the run was interrupted."""
        ...

    def wait(self, ask: Callable[[], str | None], within: float) -> None:
        """Ask until the answer is None; a Mistake with the last answer when the time is over."""
        ...

    def stopped(self, host: Host, *units: str, killed: bool = False) -> AbstractContextManager[None]:
        """Units that do not run for as long as the context lasts: asked to stop, or killed as by a loss of power."""
        ...
