"""The values of an inventory. The file's own shape is in `written`, the rules that span several fields in `rules`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

Port = Annotated[int, Ge(1), Le(65535)]
Role = Literal["controller", "worker", "loadbalancer"]
Lab = Literal["nspawn", "qemu"]  # what makes a host on this machine: a container, or a virtual machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """How a host is reached. There is no setting that skips the check of its key."""

    host: str | None = None  # whom to dial, if not the address
    user: str | None = None  # if not what ~/.ssh/config says, else root
    port: Port | None = None  # the same, else 22
    key: Path | None = None
    via: str | None = None  # a jump host, as `ssh -J` takes it
    sudo: bool = False

    @property
    def listens(self) -> int:
        """The port, if nothing but the inventory is asked."""
        return self.port or 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    name: str
    address: IPv4Address
    roles: frozenset[Role]
    ssh: Ssh = field(default_factory=Ssh)
    sans: tuple[str, ...] = ()  # extra names in its serving certificates
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)  # of its Node
    lab: Lab | None = None  # if it is made otherwise than the lab's other hosts
    pod_range: IPv4Network | None = None  # a worker's share of pod_cidr: allotted once and kept in state/, not written by the operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    service_cidr: IPv4Network
    pod_cidr: IPv4Network
    host_cidr: IPv4Network | None = None  # the network of the hosts themselves; the lab makes it
    domain: str = "cluster.local"
    nameservers: tuple[IPv4Address, ...] | None = None  # who knows the names outside of the cluster; if None, the hosts' own


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where clients reach the API."""

    loadbalancer: Literal["haproxy", "external", "none"]
    address: IPv4Address
    port: Port = 6443
    name: str | None = None  # a DNS name, if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    kubernetes: str = "1.37.2"
    etcd: str = "3.7.3"
    containerd: str = "2.4.2"
    runc: str = "1.5.2"
    cni_plugins: str = "1.9.1"
    cri_tools: str = "1.37.0"
    coredns: str = "1.15.0"
    metrics_server: str = "0.9.0"
    pause: str = "3.10.2"  # of an image, as the next one; the programs in those made here are of `kubernetes`
    agnhost: str = "2.66.1"

    def of(self, name: str) -> str:
        """The version of a project or an image by its own name, such as `metrics-server`."""
        return str(getattr(self, name.replace("-", "_")))

    def image(self, name: str) -> str:
        """The reference of an image that is made here: not of `registry.k8s.io`, for it is not what is published there."""
        return f"hardway.local/{name}:{self.of(name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Where the upstream programs come from."""

    source: Literal["auto", "download", "build"] = "auto"
    mirror: str | None = None  # a base URL that serves the projects' own layouts
    pins: Literal["first-use", "required"] = "first-use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubelet:
    """How the kubelets come by their client certificates: brought to them, or asked for by each with a token of its own."""

    tls: Literal["issued", "bootstrap"] = "issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """One cluster, as its operator wants it."""

    cluster: str
    hosts: tuple[Host, ...]
    networks: Networks
    endpoint: Endpoint
    versions: Versions = field(default_factory=Versions)
    flags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # component -> flag -> value
    lab: Lab | None = None
    binaries: Binaries = field(default_factory=Binaries)
    keys: Literal["ec", "rsa"] = "ec"
    csr_signer: Literal["controller-manager", "none"] = "controller-manager"
    network: Literal["bridge", "none"] = "bridge"  # of the Pods; none: the operator brings his own
    proxy_mode: Literal["nftables", "iptables"] = "nftables"
    images: Literal["auto", "preload", "pull"] = "auto"
    kubelet: Kubelet = field(default_factory=Kubelet)

    def on(self, *roles: Role) -> tuple[Host, ...]:
        """The hosts with one of these roles, in the order of the file."""
        return tuple(host for host in self.hosts if host.roles & set(roles))

    def made_by(self, host: Host) -> Lab:
        """What makes a host of the lab."""
        made_by = host.lab or self.lab
        if made_by is None:
            raise AssertionError
        return made_by

    @property
    def service_address(self) -> IPv4Address:
        """The address of the Service `kubernetes`: the first of its network."""
        return self.networks.service_cidr.network_address + 1

    @property
    def dns_address(self) -> IPv4Address:
        """The address of the Service `kube-dns`: the tenth of its network, as kubeadm has it."""
        return self.networks.service_cidr.network_address + 10

    @property
    def preloads(self) -> bool:
        """Whether images are made here and brought to the hosts; the lab's hosts reach no registry."""
        return self.images == "preload" or (self.images == "auto" and self.lab is not None)

    @property
    def server(self) -> str:
        """The URL at which clients reach the API."""
        return f"https://{self.endpoint.name or self.endpoint.address}:{self.endpoint.port}"
