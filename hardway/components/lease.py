"""A component of which one instance leads: its Lease, who holds it, and whether he still renews it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from hardway.desired import Answer, Gate, Live
from hardway.errors import Mistake
from hardway.inventory import Host

BUILD = re.compile(r'^kubernetes_build_info\{.*git_version="v([^"]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    holder: str  # host name, underscore, a UUID of the process
    renewed: datetime
    seconds: float  # how long it is good for after a renewal
    age: float  # seconds since the last renewal, by the API server's clock
    transitions: int

    @property
    def host(self) -> str:
        return self.holder.partition("_")[0]


def lease(live: Live, component: str) -> Lease | None:
    """The component's Lease in kube-system; None if there is none yet."""
    answer = live.api(f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{component}")
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise Mistake.at(f"lease {component}", f"the API server answers {answer.status}")
    spec = answer.json()["spec"]
    renewed = datetime.fromisoformat(spec["renewTime"])
    return Lease(
        holder=spec.get("holderIdentity") or "",
        renewed=renewed,
        seconds=float(spec["leaseDurationSeconds"]),
        age=answer.date - renewed.timestamp(),
        transitions=int(spec.get("leaseTransitions", 0)),
    )


def holder_renews(live: Live, component: str) -> str | None:
    """None if somebody holds the Lease and has renewed it within its time; else why not.

    A holder's name alone proves nothing: it stays in the Lease after the last instance has died.
    """
    found = lease(live, component)
    if found is None:
        return "nobody has taken the lease yet"
    if not found.holder:
        return "the lease has no holder"
    return None if found.age <= found.seconds else f"{found.holder} renewed the lease {found.age:.0f} s ago"


def leader(component: str, live: Live) -> str | None:
    """The host of whoever holds the Lease and still renews it."""
    found = lease(live, component)
    return found.host if found and found.holder and found.age <= found.seconds else None


def version(port: int, live: Live, host: Host) -> str:
    """What the instance on a host says it is, by its metrics: it serves no /version."""
    return build(live.local(host, port, "/metrics"), f"{host.name}:{port}")


def build(metrics: Answer, where: str) -> str:
    """The version in a daemon's metrics."""
    found = BUILD.search(metrics.body.decode(errors="replace"))
    if metrics.status != 200 or not found:
        raise Mistake.at(where, f"/metrics says {metrics.status} and no version")
    return found[1]


def gates(component: str, port: int) -> tuple[Gate, ...]:
    """The instance is healthy on its loopback port, and some instance leads."""

    def healthy(live: Live, host: Host) -> str | None:
        answer = live.local(host, port, "/healthz")
        return None if answer.status == 200 else f"/healthz says {answer.status}"

    def leads(live: Live, host: Host) -> str | None:  # noqa: ARG001 - every gate has this signature
        return holder_renews(live, component)

    return (Gate(name="healthy", ask=healthy, within=60), Gate(name="leader", ask=leads, within=60))
