"""TLS with keys that are only in memory, and a look at what a server shows."""

from __future__ import annotations

import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hardway.desired import Secret, Shown
from hardway.errors import Mistake
from hardway.pki.pair import common_name


def client(*, trusted: str, pair: Secret | None = None, check_hostname: bool = True) -> ssl.SSLContext:
    """A context that trusts a bundle and shows a certificate; the name to expect goes to `wrap_socket(server_hostname=...)`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority of ours may be below one that is not trusted
    context.load_verify_locations(cadata=trusted)
    if pair is not None:
        show(context, pair)
    return context


def show(context: ssl.SSLContext, pair: Secret) -> None:
    """Give a context its certificate and key. `ssl` reads them from a path only, so they pass through memory that has one."""
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(pair.data)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise Mistake.at("", f"a certificate and key cannot be used for TLS: {error.reason or 'unreadable'}") from None
    finally:
        os.close(descriptor)


def look(pair: Secret | None = None) -> ssl.SSLContext:
    """A context that takes any certificate, for looking at it and nothing else: no request goes over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        show(context, pair)
    return context


def fingerprint(pair: Secret) -> str:
    """SHA-256 of a certificate, in hex, as servers write it down."""
    return x509.load_pem_x509_certificate(pair.data).fingerprint(hashes.SHA256()).hex()


def shown(der: bytes) -> Shown:
    """What was shown, as `getpeercert(binary_form=True)` returns it."""
    certificate = x509.load_der_x509_certificate(der)
    issuer = common_name(certificate.issuer)
    return Shown(serial=certificate.serial_number, issuer=issuer, not_after=certificate.not_valid_after_utc)
