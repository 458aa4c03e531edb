"""A certificate and its private key, kept as one PEM."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hardway.pki.request import Request

Certificate = x509.Certificate
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

BACKDATED = timedelta(minutes=5)  # a host whose clock is a little behind accepts a certificate made just now
_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
_BEGIN_KEY = b"PRIVATE KEY-----"
_SEALED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class UnreadableError(ValueError):
    """A PEM that is no certificate with its key; says which part, and never what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and, where it is at hand, its key; of an authority below another also the certificates up to that one."""

    certificate: x509.Certificate
    key: Key | None = field(default=None, repr=False)
    sealed: bytes | None = field(default=None, repr=False)  # its key as PKCS #8 that a passphrase opens
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def parse(cls, pem: bytes) -> Pair:
        """Read what `pem` wrote; the key may be missing, but never another certificate's."""
        try:
            certificate, *chain = x509.load_pem_x509_certificates(pem)
        except ValueError:
            raise UnreadableError("no certificate can be read") from None
        bare = cls(certificate=certificate, chain=tuple(chain))
        for lower, upper in pairwise((certificate, *chain)):
            if not cls(certificate=upper).signed(cls(certificate=lower)):
                what = f"the certificate of {common_name(upper.subject)} behind it did not sign that of {common_name(lower.subject)}"
                raise UnreadableError(what)
        if _BEGIN_KEY not in pem:
            return bare
        if _SEALED in pem:
            return replace(bare, sealed=pem[_key_start(pem) :])
        return bare.with_key(private_key(pem[_key_start(pem) :]))

    def with_key(self, key: Key) -> Pair:
        """The same with its key, and with no other's."""
        if key.public_key() != self.certificate.public_key():
            raise UnreadableError("its key is not the certificate's")
        return replace(self, key=key, sealed=None)

    def opened(self, passphrase: bytes) -> Pair:
        """The same with the key that was sealed."""
        if self.sealed is None:
            return self
        try:
            key = load_pem_private_key(self.sealed, passphrase)
        except (ValueError, TypeError):
            raise UnreadableError("its key cannot be opened: the passphrase is wrong") from None
        if not isinstance(key, Key):
            raise UnreadableError("its key is neither EC nor RSA")
        return self.with_key(key)

    def closed(self, passphrase: bytes) -> Pair:
        """The same with its key sealed."""
        if self.key is None:
            return self
        sealed = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
        return replace(self, key=None, sealed=sealed)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """Certificate first; Go, OpenSSL and Python each pick their part out of one file."""
        return self.certificate_pem + (private_pem(self.key) if self.key else b"")

    @property
    def bundle(self) -> str:
        """Its certificate, and those above it."""
        return "".join(one.public_bytes(Encoding.PEM).decode() for one in (self.certificate, *self.chain))

    @property
    def common_name(self) -> str:
        return common_name(self.certificate.subject)

    @property
    def issuer(self) -> str:
        """The common name of whoever signed it."""
        return common_name(self.certificate.issuer)

    @property
    def ski(self) -> bytes:
        """The identifier of its key, by which the certificates below name their issuer."""
        try:
            return self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except x509.ExtensionNotFound:  # an authority that came from elsewhere
            return x509.SubjectKeyIdentifier.from_public_key(self.certificate.public_key()).digest

    @property
    def sans(self) -> tuple[str, ...]:
        """Its names as openssl writes them, sorted."""
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        names, addresses = found.get_values_for_type(x509.DNSName), found.get_values_for_type(x509.IPAddress)
        return (*(f"DNS:{name}" for name in sorted(names)), *(f"IP:{address}" for address in sorted(map(str, addresses))))

    def ends(self, now: datetime, within: timedelta) -> bool:
        """Whether it is time for a new one."""
        until = self.certificate.not_valid_after_utc
        return until - now <= window(self.certificate.not_valid_before_utc, until, within)

    def signed(self, other: Pair) -> bool:
        """Whether this authority signed another certificate."""
        try:
            other.certificate.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, ValueError, TypeError):  # each of them means no
            return False
        return True

    def differs(self, request: Request) -> str | None:
        """Say how a certificate is no longer as declared."""
        certificate = self.certificate
        names = {NameOID.COMMON_NAME: request.common_name, NameOID.ORGANIZATION_NAME: request.organization}
        if {attribute.oid: attribute.value for attribute in certificate.subject} != {oid: value for oid, value in names.items() if value}:
            return f"its subject is {certificate.subject.rfc4514_string()}, declared is {request.subject}"
        if isinstance(self.key, rsa.RSAPrivateKey) != (request.keys == "rsa"):
            return f"its key is not of the declared type, {request.keys}"
        try:
            usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        except x509.ExtensionNotFound:
            usages = set()
        if usages != {_USAGES[usage] for usage in request.usages}:
            return f"its usages are not as declared: {', '.join(request.usages)}"
        found = {san.partition(":")[2] for san in self.sans}
        wanted = {*request.names, *map(str, request.addresses)}
        if found != wanted:
            told = (("names missing", wanted - found), ("names no longer wanted", found - wanted))
            return "; ".join(f"{what}: {', '.join(sorted(which))}" for what, which in told if which)
        return None


def window(begin: datetime, end: datetime, within: timedelta) -> timedelta:
    """How long before its end a certificate is issued again: the last third of a short life, lest it be always."""
    return min(within, (end - begin) / 3)


def new_key(keys: Literal["ec", "rsa"], bits: int = 2048) -> Key:
    """Make a private key: P-256, or RSA."""
    return ec.generate_private_key(ec.SECP256R1()) if keys == "ec" else rsa.generate_private_key(65537, bits)


def private_pem(key: Key) -> bytes:
    """Write a private key as PKCS #8, unencrypted: daemons read it at start, without anybody there."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Key) -> bytes:
    """Write the public half of a key."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_key(pem: bytes) -> Key:
    """Read a private key that stands alone."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise UnreadableError("its key cannot be read") from None
    if not isinstance(key, Key):
        raise UnreadableError("its key is neither EC nor RSA")
    return key


def root(name: str, *, keys: Literal["ec", "rsa"], days: int, now: datetime) -> Pair:
    """Make an authority that signs itself, and below which there is no other."""
    key = new_key(keys, 3072)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _begun(subject, subject, key, now, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return Pair(certificate=builder.sign(key, hashes.SHA256()), key=key)


def leaf(request: Request, signer: Pair, *, now: datetime, lifetime: timedelta | None = None) -> Pair:
    """Sign a certificate; it ends no later than its signer."""
    if signer.key is None:
        raise UnreadableError("the authority's key is missing")
    key = new_key(request.keys)
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, request.common_name)]
    if request.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, request.organization))
    until = min(now + (lifetime or timedelta(days=request.days)), signer.certificate.not_valid_after_utc)
    builder = (
        _begun(x509.Name(attributes), signer.certificate.subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPrivateKey)), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[usage] for usage in request.usages]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(signer.ski, None, None), critical=False)
    )
    sans = [*map(x509.DNSName, request.names), *map(x509.IPAddress, request.addresses)]
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return Pair(certificate=builder.sign(signer.key, hashes.SHA256()), key=key)


def throwaway(name: str, *, now: datetime, lifetime: timedelta) -> tuple[Pair, Pair]:
    """An authority for one server and one errand, which is kept nowhere, and that server's certificate."""
    short = name.partition(".")[0]  # a common name has 64 letters at most
    authority = root(short, keys="ec", days=1, now=now)
    request = Request(authority=short, certificate=short, common_name=short, names=(name,), usages=("server",))
    return authority, leaf(request, authority, now=now, lifetime=lifetime)


def certificates(bundle: str) -> tuple[x509.Certificate, ...]:
    """Every certificate of a bundle, in its order; none of what is no bundle."""
    try:
        return tuple(x509.load_pem_x509_certificates(bundle.encode()))
    except ValueError:
        return ()


def asked(name: str) -> bytes:
    """A request for a certificate by a key that nobody keeps, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def common_name(name: x509.Name) -> str:
    """The CN of a subject or issuer."""
    return "".join(str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME))


def _begun(subject: x509.Name, issuer: x509.Name, key: Key, now: datetime, until: datetime) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(secrets.randbelow(2**127) + 1)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_encipherment: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_start(pem: bytes) -> int:
    return pem.rindex(b"-----BEGIN", 0, pem.index(_BEGIN_KEY) + 1)
