"""What a daemon may ask for is exactly one thing, and what it has is good only if it is that one."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hardway.components.kubelet import OWN
from hardway.inventory import Host
from hardway.pki import own
from hardway.pki.pair import Pair, leaf, root
from hardway.pki.request import Request

WORKER = Host(name="worker-1", address=IPv4Address("10.240.0.21"), roles=frozenset({"worker"}))
NOW = datetime(2026, 11, 25, tzinfo=UTC)
NAMES = ((NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, "system:node:worker-1"))
Names = tuple[tuple[x509.ObjectIdentifier, str], ...]


def asked(names: Names = NAMES, extension: x509.ExtensionType | None = None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in names]))
    if extension:
        builder = builder.add_extension(extension, critical=False)
    return b64encode(builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)).decode()


def forged() -> str:
    """A key that is somebody else's: the last bytes, of the signature, are others."""
    pem = x509.load_pem_x509_csr(b64decode(asked()))
    der = bytearray(pem.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return b64encode(x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)).decode()


def spec(**other: Any) -> dict[str, Any]:
    return {"signerName": OWN.signer, "usages": ["digital signature", "client auth"], "request": asked(), **other}


def test_what_a_kubelet_asks_for_is_approved() -> None:
    assert own.refusal(OWN, WORKER, spec()) is None
    assert own.refusal(OWN, WORKER, spec(usages=["key encipherment", "client auth", "digital signature"])) is None
    assert own.refusal(OWN, WORKER, spec(request=asked(tuple(reversed(NAMES))))) is None


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"signerName": "kubernetes.io/kube-apiserver-client"}, "it is for the signer kubernetes.io/kube-apiserver-client"),
        ({"signerName": "kubernetes.io/kubelet-serving"}, "it is for the signer kubernetes.io/kubelet-serving"),
        ({"usages": None}, "its usages are none"),
        ({"usages": ["client auth"]}, "its usages are client auth"),
        ({"usages": ["digital signature", "client auth", "server auth"]}, "its usages are digital signature, client auth, server auth"),
        ({"usages": ["digital signature", "client auth", "client auth"]}, "its usages are"),
        ({"request": asked((NAMES[0], (NameOID.COMMON_NAME, "system:node:worker-2")))}, "it is for CN=system:node:worker-2,O=system:nodes"),
        ({"request": asked((NAMES[0], (NameOID.COMMON_NAME, "system:node:worker-10")))}, "it is for CN=system:node:worker-10"),
        (
            {"request": asked(((NameOID.ORGANIZATION_NAME, "system:masters"), NAMES[1]))},
            "it is for CN=system:node:worker-1,O=system:masters",
        ),
        ({"request": asked((*NAMES, (NameOID.ORGANIZATION_NAME, "system:masters")))}, "it is for O=system:masters,CN="),
        ({"request": asked((*NAMES, (NameOID.COMMON_NAME, "system:node:worker-2")))}, "it is for CN=system:node:worker-2,CN="),
        ({"request": asked((*NAMES, (NameOID.ORGANIZATIONAL_UNIT_NAME, "x")))}, "it is for OU=x"),
        ({"request": asked((NAMES[1],))}, "it is for CN=system:node:worker-1"),
        ({"request": asked(())}, "it is for"),
        ({"request": asked(NAMES, x509.SubjectAlternativeName([x509.DNSName("worker-1")]))}, "it asks for names of a server"),
        ({"request": asked(NAMES, x509.BasicConstraints(ca=True, path_length=None))}, "it asks for extensions: 2.5.29.19"),
        ({"request": forged()}, "it is not signed by the key that it names"),
        ({"request": "x"}, "it cannot be read"),
        ({"request": b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\n").decode()}, "it cannot be read"),
    ],
)
def test_anything_else_is_refused(other: dict[str, Any], why: str) -> None:
    refusal = own.refusal(OWN, WORKER, spec(**other))

    assert refusal is not None
    assert refusal.startswith(why)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return root("cluster-signing-2026a", keys="ec", days=10, now=NOW)


def given(authority: Pair, **other: Any) -> bytes:
    request = Request(authority="x", certificate="x", common_name=OWN.name(WORKER), organization=OWN.organization, usages=("client",))
    pair = leaf(replace(request, **other), authority, now=NOW, lifetime=timedelta(days=1))
    return pair.certificate.public_bytes(Encoding.DER)


def test_a_certificate_is_good_until_it_ends(authority: Pair) -> None:
    der, trusted = given(authority), authority.certificate_pem.decode()

    assert own.lacking(OWN, WORKER, der, trusted, NOW) == ""
    assert own.lacking(OWN, WORKER, der, trusted, NOW + timedelta(days=1)) == "its client certificate has ended"


def test_one_that_is_not_there_or_not_the_hosts_own_is_asked_for_again(authority: Pair) -> None:
    trusted = authority.certificate_pem.decode()
    other = root("cluster-signing-2026b", keys="ec", days=10, now=NOW)

    assert own.lacking(OWN, WORKER, None, trusted, NOW) == "it has no client certificate"
    assert own.lacking(OWN, WORKER, b"x", trusted, NOW) == "its client certificate cannot be read"
    moved = given(authority, common_name="system:node:worker-2")
    assert own.lacking(OWN, WORKER, moved, trusted, NOW) == "its client certificate is for system:node:worker-2"
    why = "its client certificate is signed by cluster-signing-2026b, which is not trusted"
    assert own.lacking(OWN, WORKER, given(other), trusted, NOW) == why
    assert own.lacking(OWN, WORKER, given(other), trusted + other.certificate_pem.decode(), NOW) == ""
