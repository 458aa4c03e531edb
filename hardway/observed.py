"""What is: the facts of one host, and what of ours it carries, from one reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import Literal

RESOLV_CONF = PurePosixPath("/etc/resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a host can do and how it stands. Found out, never configured."""

    arch: Literal["amd64", "arm64"]
    cgroup: Literal[1, 2]
    systemd: int  # its version
    boot_id: str
    clock: float  # seconds since the epoch, by the host's own clock, when it was asked
    disk_free: int  # bytes under /var/lib
    memory: int  # bytes in all
    mtu: int = 0  # of the interface that the default route leaves by; 0 if there is none
    resolv_conf: PurePosixPath = RESOLV_CONF  # names nameservers that Pods reach too
    container: bool = False  # the host itself is one, such as the lab's
    programs: frozenset[str] = frozenset()  # which of the OS programs that components need are there


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a host beside its files and units: which of these it has."""

    programs: tuple[str, ...] = ()  # of the distribution
    modules: tuple[str, ...] = ()  # of the kernel
    settings: tuple[str, ...] = ()  # of the kernel, as sysctl names them
    ports: tuple[int, ...] = ()  # TCP
    names: tuple[str, ...] = ()  # of hosts, to be resolved there
    paths: tuple[PurePosixPath, ...] = ()  # files, and directories that are not empty
    certificates: tuple[PurePosixPath, ...] = ()  # what is in these files beside a key


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting of the kernel."""

    value: str
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who listens at a TCP port, as far as we may see that. Not looked for where all our units run."""

    port: int
    process: int = 0
    program: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What an installation would stand on. Judged by preflight; no file depends on it."""

    user: int = 0  # the id of who looks
    kernel: str = ""  # its release
    hostname: str = ""
    machine_id: str = ""
    product_uuid: str = ""  # of the machine, by its firmware
    swap: tuple[str, ...] = ()
    controllers: frozenset[str] = frozenset()  # of control groups
    networks: tuple[IPv4Network, ...] = ()  # reached without a gateway
    addresses: frozenset[IPv4Address] = frozenset()  # the host's own
    # What was asked for, as far as it is there:
    modules: frozenset[str] = frozenset()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    listeners: tuple[Listener, ...] = ()
    paths: frozenset[PurePosixPath] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """One file as it is on a host."""

    sha256: str
    mode: int
    owner: str  # user:group


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """One systemd unit as it is on a host."""

    active: str  # ActiveState: active, activating, failed, inactive
    sub: str
    enabled: bool
    invocation: str  # InvocationID: another one after each start
    restarts: int  # NRestarts: systemd's own, of this unit since it was last started by somebody
    since: str = ""  # ActiveEnterTimestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One host's reply."""

    facts: Facts
    ground: Ground = field(default_factory=Ground)
    files: Mapping[PurePosixPath, OnDisk] = field(default_factory=dict)  # those asked for that are there
    units: Mapping[str, UnitState] = field(default_factory=dict)
    managed: frozenset[PurePosixPath] = frozenset()  # every file that we put there and did not take away
    stored: frozenset[str] = frozenset()  # digests in the content store
    certificates: Mapping[PurePosixPath, bytes] = field(default_factory=dict)  # DER; those asked for that are there
    owed: frozenset[str] = frozenset()  # units whose restart was promised and not yet proved
    restoring: str = ""  # the snapshot of a restore that has not ended, as `Restore` writes it
    died: bool = False  # a push died after its commit: the next apply finishes it

    def runs(self, unit: str) -> bool:
        """Whether a unit is up, or on its way."""
        return unit in self.units and self.units[unit].active in {"active", "activating"}
