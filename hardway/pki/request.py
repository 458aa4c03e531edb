"""One certificate as it has to be, with every name filled in."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from hardway.errors import Finding, Mistake
from hardway.inventory import Host, Inventory
from hardway.pki.declared import Certificate, Declarations, San, Usage

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A certificate wanted of an authority; without a host it is the operator's."""

    authority: str
    certificate: str  # its name in certs/
    host: str | None = None
    common_name: str
    organization: str | None = None
    names: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    usages: tuple[Usage, ...]
    days: int = 365
    keys: Literal["ec", "rsa"] = "ec"

    @property
    def file(self) -> str:
        """Its name in state/."""
        return f"pki/{self.authority}/{self.certificate}{f'@{self.host}' if self.host else ''}.pem"

    @property
    def subject(self) -> str:
        return f"CN={self.common_name}" + (f", O={self.organization}" if self.organization else "")

    @property
    def sans(self) -> tuple[str, ...]:
        """The names as openssl writes them, sorted."""
        return (*(f"DNS:{name}" for name in sorted(self.names)), *(f"IP:{address}" for address in sorted(map(str, self.addresses))))


def requests(declarations: Declarations, inventory: Inventory) -> tuple[Request, ...]:
    """Every certificate that a cluster needs, by authority, certificate and host."""
    made: list[Request] = []
    for authority in declarations.wanted(inventory):
        for name, certificate in authority.certificates.items():
            hosts = (None,) if certificate.role == "operator" else inventory.on(certificate.role)
            made.extend(request(authority.authority, name, certificate, inventory, host) for host in hosts)
    findings = [
        Finding(
            where=f"certs/{one.authority}.yaml: certificates.{one.certificate}", what=f"the subject {one.subject!r} is too long: 64 at most"
        )
        for one in made
        if max(len(one.common_name), len(one.organization or "")) > 64  # RFC 5280, upper bounds
    ]
    if findings:
        raise Mistake(*findings)
    return tuple(made)


def request(authority: str, name: str, certificate: Certificate, inventory: Inventory, host: Host | None) -> Request:
    """Fill in one declaration for one host."""
    subject = certificate.subject.replace("{cluster}", inventory.cluster)
    if host:
        subject = subject.replace("{host.name}", host.name)
    parts = dict(part.strip().split("=", 1) for part in subject.split(","))
    listed = tuple(dict.fromkeys(san for token in certificate.sans for san in _names(token, inventory, host)))
    return Request(
        authority=authority,
        certificate=name,
        host=host.name if host else None,
        common_name=parts["CN"],
        organization=parts.get("O"),
        names=tuple(san for san in listed if isinstance(san, str)),
        addresses=tuple(san for san in listed if not isinstance(san, str)),
        usages=certificate.usages,
        days=certificate.days,
        keys=inventory.keys,
    )


def _names(token: San, inventory: Inventory, host: Host | None) -> tuple[str | Address, ...]:
    match token:
        case "loopback":
            return "localhost", ip_address("127.0.0.1"), ip_address("::1")
        case "endpoint":
            endpoint = inventory.endpoint
            return (*((endpoint.name,) if endpoint.name else ()), endpoint.address)
        case "service":
            service = "kubernetes.default.svc"
            return "kubernetes", "kubernetes.default", service, f"{service}.{inventory.networks.domain}", inventory.service_address
        case "host.name":
            return (host.name,) if host else ()
        case "host.address":
            return (host.address,) if host else ()
        case "host.sans":
            return tuple(map(_parsed, host.sans)) if host else ()


def _parsed(san: str) -> str | Address:
    try:
        return ip_address(san)
    except ValueError:
        return san
