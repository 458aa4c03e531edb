"""What would break an installation, found out in the same observe: a pure function of facts and of what components need (12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hardway.desired import Component
from hardway.errors import Finding
from hardway.inventory import Host
from hardway.observed import Observed

OLDEST_SYSTEMD = 247  # Debian 11's: ProtectProc=
DISK = 2 << 30  # bytes: binaries twice, etcd's default quota is not even met
SKEW = 60.0  # seconds after which certificates and leases go wrong; they are backdated by five minutes


def refused(host: Host, observed: Observed, components: Iterable[Component], now: float) -> Iterator[Finding]:
    """What has to be put right before anything is pushed to a host with these components; `now` is by the operator's clock."""
    facts = observed.facts
    if facts.systemd < OLDEST_SYSTEMD:
        yield Finding(
            where=host.name,
            what=f"systemd {facts.systemd} is too old",
            next_step=f"{OLDEST_SYSTEMD} or newer is needed: Debian 11, Ubuntu 22.04",
        )
    if observed.restoring:
        yield Finding(
            where=host.name,
            what=f"etcd is being restored from {observed.restoring.split()[-1]}, or that was cut short",
            next_step="wait, or run the same ./inv etcd.restore again, or ./inv etcd.revert --yes",
        )
    for package in sorted({p for c in components for p in c.packages} - facts.programs):
        yield Finding(where=host.name, what=f"{package} is not installed", next_step=f"run there: apt-get install {package}")
    if facts.disk_free < DISK:
        yield Finding(where=host.name, what=f"{facts.disk_free >> 20} MiB free under /var/lib", next_step=f"make room for {DISK >> 20} MiB")
    if abs(facts.clock - now) > SKEW:
        yield Finding(
            where=host.name,
            what=f"its clock is {facts.clock - now:+.0f} s off ours",
            next_step="set it, for instance with systemd-timesyncd",
        )
