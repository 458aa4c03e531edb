"""What would break an installation, found out in the same observe: a pure function of what was seen and of what components need (12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from hardway.desired import Component, Needs
from hardway.errors import Finding
from hardway.inventory import Host, Inventory
from hardway.observed import Asked, Ground, Observed

OLDEST_SYSTEMD = 247  # Debian 11's: ProtectProc=
DISK = 2 << 30  # bytes: binaries twice, etcd's default quota is not even met
MEMORY = 256  # MiB for everything that is not ours
SKEW = 30.0  # seconds after which leases and, later, certificates go wrong
DRIFT = 2.0  # seconds that a clock which is kept right is never off
UNITS = PurePosixPath("/etc/systemd/system")
PROVED = PurePosixPath("/var/lib/hardway/proved")  # by units: those that have been up behind their gates, once at least
VENDOR = PurePosixPath("/lib/systemd/system")  # of the distribution; the same as /usr/lib, or a link to it
DEVICES = PurePosixPath("/sys/class/net")
PACKAGES = {"ip": "iproute2", "nft": "nftables"}  # where a program is not named as its package
# What the settings of a module that is not loaded yet begin with.
MODULES = {"net.bridge.": "br_netfilter", "net.netfilter.": "nf_conntrack"}
# What other installers leave -> whose it is.
OTHERS: Mapping[PurePosixPath, str] = {
    PurePosixPath("/etc/kubernetes/manifests"): "kubeadm",
    PurePosixPath("/etc/kubernetes/admin.conf"): "kubeadm",
    PurePosixPath("/etc/kubernetes/kubelet.conf"): "kubeadm",
    PurePosixPath("/etc/rancher"): "k3s or RKE2",
    PurePosixPath("/var/lib/rancher"): "k3s or RKE2",
    PurePosixPath("/var/lib/k0s"): "k0s",
    PurePosixPath("/var/snap/microk8s"): "MicroK8s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One host, what it is to carry, and how it was seen: between `asked` and `now`, by the operator's clock."""

    inventory: Inventory
    host: Host
    components: tuple[Component, ...]
    observed: Observed
    asked: float
    now: float

    @property
    def ground(self) -> Ground:
        return self.observed.ground

    @property
    def needs(self) -> tuple[tuple[Component, Needs], ...]:
        return tuple((component, component.needs(self.inventory)) for component in self.components)

    def has(self, unit: str) -> bool:
        """Whether a unit there is one that we have installed."""
        return UNITS / unit in self.observed.managed

    @property
    def runs(self) -> bool:
        """Whether all that the host is to carry runs there already."""
        units = self.observed.units
        return all(component.unit in units and units[component.unit].active == "active" for component in self.components)

    @property
    def off(self) -> float:
        """Seconds that its clock is ahead of ours, at least; below zero, behind."""
        clock = self.observed.facts.clock
        return max(clock - self.now, 0) or min(clock - self.asked, 0)

    def error(self, what: str, next_step: str) -> Finding:
        return Finding(where=self.host.name, what=what, next_step=next_step)

    def warning(self, what: str, next_step: str) -> Finding:
        return Finding(where=self.host.name, what=what, next_step=next_step, warning=True)


def asked(inventory: Inventory, components: Iterable[Component]) -> Asked:
    """What has to be asked of a host that is to carry these."""
    mine = tuple(components)
    needs = [component.needs(inventory) for component in mine]
    proved = (PROVED / component.unit for component, need in zip(mine, needs, strict=True) if need.keeps)
    return Asked(
        programs=_sorted(program for component in mine for program in component.packages),
        modules=_sorted(module for need in needs for module in need.modules),
        settings=_sorted(name for need in needs for name in need.settings),
        ports=tuple(sorted({port for need in needs for port in need.ports})),
        names=(inventory.endpoint.name,) if inventory.endpoint.name else (),
        paths=(
            *OTHERS,
            *(path for need in needs for path in (*need.new, *need.keeps)),
            *(VENDOR / component.unit for component in mine),
            *proved,
        ),
        certificates=tuple(own.path for component in mine if (own := component.own(inventory))),
    )


def findings(cases: Sequence[Case]) -> tuple[Finding, ...]:
    """Everything that stands against an installation: errors stop it before anything is changed, warnings are told."""
    return (*(finding for case in cases for finding in _of(case)), *_lost(cases), *_twins(cases))


def _of(case: Case) -> Iterator[Finding]:
    for rule in ALWAYS:
        yield from rule(case)
    for rule in BEFORE:
        yield from (replace(finding, warning=finding.warning or case.runs) for finding in rule(case))


def merged(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The same on several hosts in one line."""
    hosts: dict[Finding, list[str]] = defaultdict(list)
    for finding in found:
        hosts[replace(finding, where="")].append(finding.where)
    return tuple(replace(finding, where=", ".join(where)) for finding, where in hosts.items())


def _sorted(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(words)))


def _system(case: Case) -> Iterator[Finding]:
    facts, ground = case.observed.facts, case.ground
    if ground.user:
        yield case.error(f"we are user {ground.user} there, not root", "say `sudo: true` under its `ssh:`, or sign in as root")
    if facts.systemd < OLDEST_SYSTEMD:
        yield case.error(f"systemd {facts.systemd} is too old", f"{OLDEST_SYSTEMD} or newer is needed: Debian 11, Ubuntu 22.04")
    oldest = max((need.kernel for _, need in case.needs), default=(0, 0))
    numbers = tuple(int(number) for number in ground.kernel.partition("-")[0].split(".")[:2] if number.isdecimal())
    if numbers and numbers < oldest:
        yield case.error(f"its kernel is {ground.kernel}", f"{oldest[0]}.{oldest[1]} or newer is needed")
    if abs(case.off) > DRIFT:
        found = case.error if abs(case.off) > SKEW else case.warning
        yield found(f"its clock is {case.off:+.0f} s off ours", "set it, for instance with systemd-timesyncd")


def _restore(case: Case) -> Iterator[Finding]:
    if case.observed.restoring:
        what = f"etcd is being restored from {case.observed.restoring.split()[-1]}, or that was cut short"
        yield case.error(what, "wait, or run the same ./inv etcd.restore again, or ./inv etcd.revert --yes")


def _lost(cases: Sequence[Case]) -> Iterator[Finding]:
    """What nobody but its peers can make again is not begun anew: it would be another one, or wait for a quorum that is gone."""
    lost: dict[str, list[tuple[Case, Component, Needs]]] = defaultdict(list)
    for case in cases:
        for component, need in case.needs:
            if _gone(case, component, need):
                lost[component.name].append((case, component, need))
    for those in lost.values():
        for case, component, need in those:
            peers = len(component.hosts(case.inventory)) - len(those)
            alone = need.rejoined and len(those) == 1 and peers > 1
            step = need.rejoined.replace("{host.name}", case.host.name) if alone else need.restored
            yield case.error(f"{component.name} has run here, and {_gone(case, component, need)[0]} is gone", step)


def _gone(case: Case, component: Component, need: Needs) -> list[PurePosixPath]:
    """What a component that has run on a host has lost there."""
    state = case.observed.units.get(component.unit)
    if (state is not None and state.active == "active") or PROVED / component.unit not in case.ground.paths:
        return []
    return [path for path in need.keeps if path not in case.ground.paths]


def _room(case: Case) -> Iterator[Finding]:
    facts = case.observed.facts
    if facts.disk_free < DISK:
        yield case.error(f"{facts.disk_free >> 20} MiB free under /var/lib", f"make room for {DISK >> 20} MiB")
    needed = MEMORY + sum(need.memory for _, need in case.needs)
    if facts.memory >> 20 < needed:
        yield case.error(f"it has {facts.memory >> 20} MiB of memory", f"what it carries takes {needed} MiB: give it more, or fewer roles")


def _programs(case: Case) -> Iterator[Finding]:
    for program in _sorted(program for component in case.components for program in component.packages):
        if program not in case.observed.facts.programs:
            yield case.error(f"{program} is not installed", f"run there: apt-get install {PACKAGES.get(program, program)}")


def _kernel(case: Case) -> Iterator[Finding]:
    if case.runs:
        return  # what runs has what it needs, and a host is not asked for it again
    needs = [need for _, need in case.needs]
    lacking = _sorted(module for need in needs for module in need.modules if module not in case.ground.modules)
    for module in lacking:
        next_step = f"use a kernel that has it; see there: modprobe {module}"
        yield case.error(f"its kernel has no {module}", next_step)
    for name, wanted in {name: value for need in needs for name, value in need.settings.items()}.items():
        found = case.ground.settings.get(name)
        module = next((module for prefix, module in MODULES.items() if name.startswith(prefix)), "")
        if found is None and not module:
            yield case.error(f"its kernel has no {name}", "use a kernel that has it")
        elif found is not None and found.value != wanted and not found.writable:
            yield case.error(f"{name} is {found.value} and cannot be changed", f"set it to {wanted} on the machine that this host runs on")


def _groups(case: Case) -> Iterator[Finding]:
    wanted = _sorted(name for _, need in case.needs for name in need.controllers)
    if not wanted:
        return
    if lacking := [name for name in wanted if name not in case.ground.controllers]:
        next_step = "boot its kernel with cgroup_enable=memory" if lacking == ["memory"] else "use a kernel that has them, and enables them"
        yield case.error(f"control groups without {', '.join(lacking)}", next_step)
    if case.observed.facts.cgroup == 1:
        next_step = "boot its kernel with systemd.unified_cgroup_hierarchy=1 while there is time"
        yield case.warning("its control groups are of version 1, which Kubernetes is giving up", next_step)


def _swap(case: Case) -> Iterator[Finding]:
    if case.ground.swap and (unit := next((component.name for component, need in case.needs if need.swapless), "")):
        next_step = "run there: swapoff -a, and take it out of /etc/fstab"
        yield case.error(f"swap is on ({', '.join(case.ground.swap)}), and {unit} does not start with it", next_step)


def _ports(case: Case) -> Iterator[Finding]:
    for component, need in case.needs:
        state = case.observed.units.get(component.unit)
        if state is not None and state.active == "active":
            continue  # it is there itself
        taken = (one for one in case.ground.listeners if one.port in need.ports and not case.has(one.unit))
        for listener in taken:
            if state is not None and not listener.process:
                continue  # it starts and ends again and again: it was there itself, a moment ago
            known = ", ".join(filter(None, (f"process {listener.process}", listener.unit))) if listener.process else ""
            by = f"{listener.program} ({known})" if known else "another program"
            next_step = "stop it there, and see that it does not start again"
            yield case.error(f"port {listener.port} of {component.name} is taken by {by}", next_step)


def _network(case: Case) -> Iterator[Finding]:
    inventory, host, ground = case.inventory, case.host, case.ground
    if ground.addresses and host.address not in ground.addresses:
        yield case.error(f"{host.address} is not an address of its own", "write the one that its interface has into the inventory")
    if inventory.network == "bridge" and ground.networks and host.roles & {"controller", "worker"}:
        others = [other for other in inventory.on("worker") if other != host]
        if far := [other.name for other in others if not any(other.address in network for network in ground.networks)]:
            next_step = "put the nodes into one network, or say `network: none` and bring a network of your own"
            yield case.error(f"it has no network in common with {', '.join(far)}, so no route to Pods there", next_step)


def _names(case: Case) -> Iterator[Finding]:
    ground, name = case.ground, case.inventory.endpoint.name
    if ground.hostname and ground.hostname not in ground.names:
        yield case.warning(f"it does not resolve its own name {ground.hostname}", f"add there to /etc/hosts: 127.0.1.1 {ground.hostname}")
    if name and name not in ground.names:
        found = case.error if "worker" in case.host.roles else case.warning
        yield found(f"it does not resolve the endpoint {name}", f"add there to /etc/hosts: {case.inventory.endpoint.address} {name}")


def _leftovers(case: Case) -> Iterator[Finding]:
    """Once something of ours is there, what others have left has broken nothing, so it is told and stops nothing."""
    paths, found = case.ground.paths, case.warning if case.observed.managed else case.error
    for path, whose in OTHERS.items():
        if path in paths:
            yield found(f"{path} is there: of another cluster, by {whose}", f"let {whose} remove its cluster, or move {path} away")
    for component, need in case.needs:
        if case.has(component.unit):
            continue
        for path in (path for path in need.new if path in paths):
            next_step = f"run there: ip link delete {path.name}" if path.parent == DEVICES else f"save what it holds, then move {path} away"
            yield case.error(f"{path} is there before {component.name} is: of another cluster", next_step)
        if (vendor := VENDOR / component.unit) in paths:
            next_step = f"remove the package that dpkg -S {component.unit} names"
            yield case.error(f"another {component.name} is installed: {vendor}", next_step)


def _twins(cases: Iterable[Case]) -> Iterator[Finding]:
    """What has to be each host's own. The containers of a lab see the firmware of one machine."""
    seen: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        for what, value in {"machine-id": case.ground.machine_id, "product_uuid": case.ground.product_uuid}.items():
            if value and not (what == "product_uuid" and case.observed.facts.container):
                seen[what, value].append(case)
    for (what, value), twins in seen.items():
        names = ", ".join(case.host.name for case in twins)
        machine = what == "machine-id"
        next_step = "run there: rm /etc/machine-id; systemd-machine-id-setup" if machine else "give each machine a UUID of its own"
        if len(twins) > 1:
            yield Finding(where=names, what=f"they share one {what}, {value}", next_step=next_step, warning=True)


Rule = Callable[[Case], Iterator[Finding]]
ALWAYS: tuple[Rule, ...] = (_system, _restore)
# Where all of it runs already, these are told and stop nothing: not the renewal of a certificate for want of memory.
BEFORE: tuple[Rule, ...] = (_room, _programs, _kernel, _groups, _swap, _ports, _network, _names, _leftovers)
