"""A component, what blocks a push of it, and what proves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from hardway.desired.files import File, Program, Template
from hardway.desired.needs import Needs
from hardway.desired.own import Own
from hardway.desired.questions import Live, Stage
from hardway.desired.trace import Trace

if TYPE_CHECKING:
    from hardway.errors import Finding
    from hardway.inventory import Host, Inventory, Role
    from hardway.observed import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a daemon shows a certificate to whoever connects."""

    certificate: str  # its name in certs/
    port: int
    loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Blocks a push until a component is up: None is open, else the reason why not."""

    name: str
    ask: Callable[[Live, Host], str | None]
    within: float  # seconds
    arrival: bool = False  # that a change has arrived: closed before it, and that says nothing of who is well
    command: bool = False  # asked by a command on the host: too dear for a status, which has one command for each


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """That one instance leads the others, and how another comes to lead before that one stops."""

    of: Callable[[Live], Host | None]  # the host whose instance leads; it goes last
    heir: Callable[[Live, Host], Host | None]  # who is to lead in a host's place; None if that does not lead, or is alone
    hand_over: Callable[[Live, Host, Host], None]  # from one host to another
    asked_by: str  # the component whose requests would be lost meanwhile, so it stands still


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """How a component goes over its hosts (6)."""

    at_once: int = 1
    gates: tuple[Gate, ...] = ()
    lead: Lead | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What a check must be allowed to do: with a resource in the run's namespace, in another or in none, or with another path."""

    verbs: tuple[str, ...]
    resource: str = ""  # plural; a subresource after a slash
    group: str = ""
    namespace: str = ""  # the run's own if empty
    cluster: bool = False  # it is in no namespace
    name: str = ""  # of the one object, if it is known
    path: str = ""

    @property
    def writes(self) -> bool:
        return not set(self.verbs) <= {"get", "list", "watch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Proves one statement to people. Returns the evidence; raises Failed or Skipped of hardway.smoke."""

    name: str
    component: str
    proves: str
    run: Callable[[Stage], str]
    needs: frozenset[str] = frozenset({"api"})  # api, hosts, disruptive; namespace: one of its own
    permissions: tuple[Permission, ...] = ()  # of a check that runs on clusters of others too
    sabotage: str = ""  # how it is seen to fail; the test that does so carries the check's name
    first: bool = False  # it takes long, so it begins before the others
    last: bool = False  # it looks back on the whole run, so it goes after the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One daemon, or what the kit puts into the cluster alone: a module named as its unit answers what it runs with."""

    name: str
    on: tuple[Role, ...] = ()  # on every host with one of these roles; on none if it is in the cluster alone
    files: Callable[[Inventory, Host, Facts], tuple[File[Template | Program], ...]] = lambda *_: ()  # pure (1)
    roll: Roll = field(default_factory=Roll)
    programs: tuple[str, ...] = ()  # upstream binaries
    leaves: tuple[Trace, ...] = ()  # beside its files
    packages: tuple[str, ...] = ()  # of the distribution: programs by which they show
    needs: Callable[[Inventory], Needs] = lambda _: Needs()  # of a host, before it is installed there
    wanted: Callable[[Inventory], bool] = lambda _: True  # whether this cluster has it
    manifests: Callable[[Inventory], tuple[Template, ...]] = lambda _: ()  # put into the cluster once the component is up
    joins: bool = False  # its manifests have to be in the cluster before it starts
    own: Callable[[Inventory], Own | None] = lambda _: None  # a client certificate that it asks for itself
    serves: tuple[Serving, ...] = ()  # certificates that show on the wire
    version: Callable[[Live, Host], str] | None = None  # what the instance on a host says it is
    leader: Callable[[Live], str | None] | None = None  # the name of the host whose instance leads, if one does
    # Host, path, old and new text of a file that would be replaced: why that must not be, or None.
    guard: Callable[[Host, PurePosixPath, str, str], Finding | None] | None = None

    @property
    def unit(self) -> str:
        return f"{self.name}.service"

    def hosts(self, inventory: Inventory) -> tuple[Host, ...]:
        """Where it runs, in the order of the inventory."""
        return inventory.on(*self.on) if self.wanted(inventory) else ()
