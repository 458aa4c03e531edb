"""What should be: files, who reads them and how, components, gates, checks.

Numbers in brackets are the rules in docs/design.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hardway.errors import Finding
    from hardway.inventory import Host, Inventory, Role
    from hardway.observed import Facts, Observed


class Pickup(Enum):
    """How a reader notices that a file has changed."""

    RESTART = "restart"  # read at each start
    ONCE = "once"  # read at the very first start; a change later means nothing
    RELOAD = "reload"  # read again on `systemctl reload`
    HANDSHAKE = "handshake"  # read at every TLS handshake
    WATCH = "watch"  # the process watches the file: a second or two
    POLL = "poll"  # the process looks again within five minutes

    @property
    def within(self) -> float:
        """Seconds after which the reader has noticed, if nobody restarts or reloads it."""
        return {Pickup.HANDSHAKE: 0.0, Pickup.WATCH: 2.0, Pickup.POLL: 300.0}.get(self, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Who reads a file: a unit, or a program that an operator runs (then without `.service`)."""

    reader: str
    pickup: Pickup


@dataclass(frozen=True, slots=True)
class Text:
    """Content that may be shown and compared line by line; the only content with a diff."""

    text: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Content that is never shown: no repr, no diff, no JSON (11)."""

    data: bytes = field(repr=False)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A binary: its bytes stay on disk, it travels through the content store (2)."""

    sha256: str
    size: int
    local: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A file below units/ or templates/ and what it is rendered with, beside inventory, host and facts."""

    source: str
    values: Mapping[str, object] = field(default_factory=dict)
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """An upstream binary by its name; its version follows from the inventory, its architecture from the host."""

    name: str


Content = Text | Secret | Blob
C_co = TypeVar("C_co", bound=Text | Secret | Blob | Template | Program, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Generic[C_co]):
    """One file on a host. A key and its certificate are one file: one rename swaps both (7)."""

    path: PurePosixPath
    content: C_co
    uses: tuple[Use, ...]
    owner: str = "root:root"
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """To the cluster what File is to a host: applied server-side with a field manager of our own."""

    object: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Kind and name, as kubectl writes them."""
        metadata = self.object["metadata"]
        space = f"{metadata['namespace']}/" if "namespace" in metadata else ""
        return f"{self.object['kind'].lower()}/{space}{metadata['name']}"

    @property
    def path(self) -> str:
        """Where the API serves it."""
        metadata = self.object["metadata"]
        space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        return f"{self._group}{space}/{self._plural}/{metadata['name']}"

    @property
    def collection(self) -> str:
        """Where the API lists all of its kind, of every namespace."""
        return f"{self._group}/{self._plural}"

    @property
    def _group(self) -> str:
        version = self.object["apiVersion"]
        return f"/{'apis' if '/' in version else 'api'}/{version}"

    @property
    def _plural(self) -> str:
        kind = self.object["kind"].lower()
        return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("s") else f"{kind}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one component puts on one host: complete, before anything is changed (1)."""

    component: str
    unit: str
    files: tuple[File[Content], ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a daemon shows a certificate to whoever connects."""

    certificate: str  # its name in certs/
    port: int
    loopback: bool = False


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

    def local(self, host: Host, port: int, path: str) -> Answer:
        """GET from a daemon that listens on a host's loopback, such as 10257."""
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


class Stage(Live, Protocol):
    """What a check may do besides asking: create and stop, all of it put back by the stage."""

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

    def began(self, host: Host) -> Observed:
        """The host as it was when the run began."""
        ...

    def kubectl(self, *argv: str) -> str | None:
        """Standard output of kubectl as the administrator; None if there is none to run."""
        ...

    def give_up(self) -> None:
        """Whoever waits on this stage stops waiting: the run was interrupted."""
        ...

    def wait(self, ask: Callable[[], str | None], within: float) -> None:
        """Ask until the answer is None; a Mistake with the last answer when the time is over."""
        ...

    def stopped(self, host: Host, unit: str) -> AbstractContextManager[None]:
        """A unit stopped for as long as the context lasts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Blocks a push until a component is up: None is open, else the reason why not."""

    name: str
    ask: Callable[[Live, Host], str | None]
    within: float  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """How a component goes over its hosts (6)."""

    at_once: int = 1
    gates: tuple[Gate, ...] = ()
    last: Callable[[Live], Host | None] | None = None  # the host that goes last, such as a leader's


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Proves one statement to people. Returns the evidence; raises Failed or Skipped of hardway.smoke."""

    name: str
    component: str
    proves: str
    run: Callable[[Stage], str]
    needs: frozenset[str] = frozenset({"api"})  # api, hosts, disruptive
    sabotage: str = ""  # how it is seen to fail; the test that does so carries the check's name
    last: bool = False  # it looks back on the whole run, so it goes after the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One daemon: a module named as its unit answers what it runs with."""

    name: str
    on: Role
    files: Callable[[Inventory, Host, Facts], tuple[File[Template | Program], ...]]  # pure (1)
    roll: Roll
    programs: tuple[str, ...] = ()  # upstream binaries
    packages: tuple[str, ...] = ()  # of the distribution
    manifests: tuple[Template, ...] = ()  # put into the cluster once the component is up
    serves: tuple[Serving, ...] = ()  # certificates that show on the wire
    # Host, path, old and new text of a file that would be replaced: why that must not be, or None.
    guard: Callable[[Host, PurePosixPath, str, str], Finding | None] | None = None

    @property
    def unit(self) -> str:
        return f"{self.name}.service"
