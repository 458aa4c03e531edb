"""Every certificate as openssl and a parser see it."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from hardway.inventory import Inventory
from hardway.pki.declared import Declarations
from hardway.pki.pair import Pair, UnreadableError, leaf, root
from hardway.pki.request import Request, requests


@pytest.fixture(scope="session")
def authority() -> Pair:
    return root("kubernetes-2026a", keys="ec", days=3650, now=datetime.fromisoformat("2026-11-24T12:00:00Z"))


@pytest.fixture
def wanted(declarations: Declarations, inventory: Inventory) -> dict[str, Request]:
    return {request.file: request for request in requests(declarations, inventory)}


@pytest.fixture
def at() -> datetime:
    return datetime.fromisoformat("2026-11-24T12:00:00Z")


SERVING = "pki/kubernetes/kube-apiserver@controller-1.pem"


def critical(certificate: x509.Certificate) -> dict[str, bool]:
    return {extension.oid._name: extension.critical for extension in certificate.extensions}


def key_usage(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    return {name for name in names if getattr(found, name)}


def test_an_authority_signs_certificates_and_no_other_authority(authority: Pair, at: datetime) -> None:
    certificate = authority.certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value

    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert key_usage(certificate) == {"key_cert_sign", "crl_sign"}
    assert critical(certificate) == {"subjectKeyIdentifier": False, "basicConstraints": True, "keyUsage": True}
    assert certificate.not_valid_before_utc == at - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == at + timedelta(days=3650)


def test_a_leaf_says_what_it_is_for_and_no_more(authority: Pair, wanted: dict[str, Request], at: datetime) -> None:
    certificate = leaf(wanted[SERVING], authority, now=at).certificate

    assert critical(certificate) == {
        "subjectKeyIdentifier": False,
        "basicConstraints": True,
        "keyUsage": True,
        "extendedKeyUsage": False,
        "authorityKeyIdentifier": False,
        "subjectAltName": False,
    }
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert key_usage(certificate) == {"digital_signature"}
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifier is not None
    assert identifier == authority.ski
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (at - timedelta(minutes=5), at + timedelta(days=365))


def test_serial_numbers_are_positive_random_and_at_most_128_bits(authority: Pair, wanted: dict[str, Request], at: datetime) -> None:
    serials = {leaf(request, authority, now=at).certificate.serial_number for request in wanted.values()}

    assert len(serials) == len(wanted)
    assert all(0 < serial < 2**128 for serial in serials)
    assert max(serials).bit_length() > 100


def test_rsa_keys_encipher_too(wanted: dict[str, Request], at: datetime) -> None:
    authority = root("kubernetes-2026a", keys="rsa", days=3650, now=at)
    request = wanted[SERVING]
    pair = leaf(Request(authority="a", certificate="b", common_name="c", usages=request.usages, keys="rsa"), authority, now=at)

    assert isinstance(authority.key, rsa.RSAPrivateKey)
    assert isinstance(pair.key, rsa.RSAPrivateKey)
    assert (authority.key.key_size, pair.key.key_size) == (3072, 2048)
    assert key_usage(pair.certificate) == {"digital_signature", "key_encipherment"}


def test_keys_are_p256_by_default(authority: Pair, wanted: dict[str, Request], at: datetime) -> None:
    for pair in (authority, leaf(wanted[SERVING], authority, now=at)):
        assert isinstance(pair.key, ec.EllipticCurvePrivateKey)
        assert isinstance(pair.key.curve, ec.SECP256R1)


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)


def test_openssl_verifies_each_certificate_for_its_purpose_and_no_other(
    authority: Pair, wanted: dict[str, Request], at: datetime, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    for request in wanted.values():
        if request.host in {"controller-1", None}:
            (tmp_path / "leaf.pem").write_bytes(leaf(request, authority, now=at).pem)
            for usage in ("server", "client"):
                verify = ("verify", "-x509_strict", "-attime", str(int(at.timestamp())), "-CAfile", str(tmp_path / "ca.crt"))
                ran = openssl(*verify, "-purpose", f"ssl{usage}", str(tmp_path / "leaf.pem"))
                assert (ran.returncode == 0) == (usage in request.usages), (request.file, usage, ran.stderr)


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (("-verify_hostname", "kubernetes.default.svc.cluster.local"), True),
        (("-verify_ip", "10.240.0.10"), True),
        (("-verify_ip", "::1"), True),
        (("-verify_hostname", "controller-2"), False),
        (("-verify_ip", "10.240.0.12"), False),
        (("-attime", "0"), False),
    ],
)
def test_openssl_verifies_the_names_of_the_api_server(
    authority: Pair, wanted: dict[str, Request], at: datetime, tmp_path: Path, check: tuple[str, str], good: bool
) -> None:
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    (tmp_path / "leaf.pem").write_bytes(leaf(wanted[SERVING], authority, now=at).pem)

    time = () if "-attime" in check else ("-attime", str(int(at.timestamp())))
    ran = openssl("verify", "-x509_strict", "-CAfile", str(tmp_path / "ca.crt"), *time, *check, str(tmp_path / "leaf.pem"))

    assert (ran.returncode == 0) is good


def test_openssl_reads_both_halves_of_one_file(authority: Pair, tmp_path: Path) -> None:
    (tmp_path / "pair.pem").write_bytes(authority.pem)

    certificate = openssl("x509", "-in", str(tmp_path / "pair.pem"), "-noout", "-pubkey").stdout
    key = openssl("pkey", "-in", str(tmp_path / "pair.pem"), "-pubout").stdout

    assert certificate.startswith("-----BEGIN PUBLIC KEY-----")
    assert certificate == key


def test_two_authorities_of_one_name_are_told_apart_by_their_keys(authority: Pair, wanted: dict[str, Request], at: datetime) -> None:
    other = root("kubernetes-2026a", keys="ec", days=3650, now=at)
    signed = leaf(wanted[SERVING], authority, now=at)

    assert authority.signed(signed)
    assert not other.signed(signed)


def test_nothing_is_signed_without_a_key(authority: Pair, wanted: dict[str, Request], at: datetime) -> None:
    with pytest.raises(UnreadableError, match="the authority's key is missing"):
        leaf(wanted[SERVING], Pair(certificate=authority.certificate), now=at)
