"""The shape of inventory.yaml: what its schema describes, before it becomes an Inventory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hardway.inventory.values import Binaries, Endpoint, Host, Inventory, Kubelet, Lab, Networks, Port, Role, Ssh, Versions

Flagged = Literal["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"]
Flags = Mapping[Flagged, Mapping[str, str | int | bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SshWritten:
    """How hosts are reached: at the top for all of them, at a host for what differs there."""

    host: Annotated[str | None, Field(description="whom to dial, if not the address: a name, another address, a Host of ~/.ssh/config")] = (
        None
    )
    user: Annotated[str | None, Field(description="if not what ~/.ssh/config says, or else root")] = None
    port: Port | None = None
    key: Path | None = None
    via: Annotated[str | None, Field(description="a jump host, as `ssh -J` takes it")] = None
    sudo: bool | None = None

    def over(self, ssh: Ssh) -> Ssh:
        """The given settings, with those written here in place of theirs."""
        written = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(ssh, **written)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWritten:
    """One machine."""

    address: IPv4Address
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    ssh: SshWritten = field(default_factory=SshWritten)
    sans: Annotated[tuple[str, ...], Field(description="more names in its serving certificates")] = ()
    labels: Annotated[Mapping[str, str], Field(description="of its Node, if it is a worker")] = field(default_factory=dict)
    lab: Annotated[Lab | None, Field(description="if it is made otherwise than the lab's other hosts")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A cluster: its machines, networks, endpoint, and where its programs come from."""

    cluster: Annotated[str, Field(description="a DNS label; names the directory below state/")]
    hosts: Annotated[Mapping[str, HostWritten], Field(min_length=1)]
    networks: Networks
    endpoint: Endpoint
    ssh: SshWritten = field(default_factory=SshWritten)
    versions: Versions = field(default_factory=Versions)
    flags: Annotated[Flags, Field(description="more flags of a component, or other values for ours, without the dashes")] = field(
        default_factory=dict
    )
    lab: Annotated[
        Lab | None, Field(description="makes the hosts on this machine, as containers or as virtual machines; left out, they are yours")
    ] = None
    binaries: Binaries = field(default_factory=Binaries)
    keys: Literal["ec", "rsa"] = "ec"
    csr_signer: Literal["controller-manager", "none"] = "controller-manager"
    network: Annotated[Literal["bridge", "none"], Field(description="of the Pods; none: you bring Cilium, Calico or another")] = "bridge"
    proxy_mode: Annotated[Literal["nftables", "iptables"], Field(description="by which kube-proxy redirects")] = "nftables"
    images: Annotated[
        Literal["auto", "preload", "pull"], Field(description="preload: made here from the programs; auto: preload in the lab, else pull")
    ] = "auto"
    kubelet: Kubelet = field(default_factory=Kubelet)

    def inventory(self, *, directory: Path) -> Inventory:
        """The values that the engine works with; a key's path is taken from the file's directory."""
        ssh = self.ssh.over(Ssh())
        return Inventory(
            cluster=self.cluster,
            hosts=tuple(_host(name, host, ssh, directory) for name, host in self.hosts.items()),
            networks=self.networks,
            endpoint=self.endpoint,
            versions=self.versions,
            flags={component: {flag: _flag(value) for flag, value in flags.items()} for component, flags in self.flags.items()},
            lab=self.lab,
            binaries=self.binaries,
            keys=self.keys,
            csr_signer=self.csr_signer,
            network=self.network,
            proxy_mode=self.proxy_mode,
            images=self.images,
            kubelet=self.kubelet,
        )


def _host(name: str, host: HostWritten, defaults: Ssh, directory: Path) -> Host:
    ssh = host.ssh.over(defaults)
    if ssh.key:
        ssh = replace(ssh, key=directory / ssh.key.expanduser())
    return Host(name=name, address=host.address, roles=frozenset(host.roles), ssh=ssh, sans=host.sans, labels=host.labels, lab=host.lab)


def _flag(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
