"""What a host and the cluster should carry: files, who reads them and how, objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from hardway.desired.own import Own


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
    own: Own | None = None  # a certificate that the unit asks for itself
    trusted: str = ""  # the bundle by which that one has to be signed
