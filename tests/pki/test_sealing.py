from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from hardway.desired import Text
from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import issue, kept, sealing, succession
from hardway.pki.credentials import credentials
from hardway.pki.declared import Authority, Declarations
from hardway.pki.pair import Pair, new_key, private_pem, root
from hardway.pki.strangers import strangers
from hardway.state import State

SECRET = b"correct horse battery staple"
Ensure = Callable[..., dict[str, str]]


@pytest.fixture
def state(issued: State) -> State:
    return issued


@pytest.fixture
def ensure(declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> Ensure:
    def run(unlock: kept.Unlock = kept.locked, at: datetime = now, tell: Callable[[str], None] = lambda _: None) -> dict[str, str]:
        return {made.file: made.why for made in issue.ensure(declarations, inventory, state, at, unlock=unlock, tell=tell)}

    return run


def never(what: str) -> bytes:
    raise AssertionError(what)


def kubernetes(declarations: Declarations) -> Authority:
    return next(one for one in declarations.authorities if one.authority == "kubernetes")


def authority(now: datetime, name: str = "kubernetes") -> str:
    return f"pki/{name}/authority-{now.year}a.pem"


def test_a_sealed_authority_shows_no_key_and_issues_with_its_passphrase(
    declarations: Declarations, state: State, now: datetime, ensure: Ensure
) -> None:
    told = sealing.seal(declarations, state, SECRET)

    assert b"BEGIN ENCRYPTED PRIVATE KEY" in state.read(authority(now))
    assert f"{authority(now)}: sealed" in told
    assert any("cluster-signing" in line and "stays as it is" in line for line in told)
    state.path("pki/kubernetes/admin.pem").unlink()
    assert ensure(lambda _: SECRET) == {"pki/kubernetes/admin.pem": "missing"}


def test_what_issues_nothing_asks_for_no_passphrase(declarations: Declarations, inventory: Inventory, state: State, ensure: Ensure) -> None:
    before = credentials(declarations, inventory, state).placed
    sealing.seal(declarations, state, SECRET)

    assert ensure(never) == {}
    assert credentials(declarations, inventory, state).placed == before


def test_a_wrong_passphrase_issues_nothing(declarations: Declarations, state: State, ensure: Ensure) -> None:
    sealing.seal(declarations, state, SECRET)
    state.path("pki/kubernetes/admin.pem").unlink()

    with pytest.raises(Mistake, match="authority kubernetes: its key cannot be opened: the passphrase is wrong; try again"):
        ensure(lambda _: b"another one")
    with pytest.raises(Mistake, match="it is sealed, and no passphrase is at hand"):
        ensure()
    assert not state.path("pki/kubernetes/admin.pem").exists()


def test_what_is_unsealed_is_as_it_was(declarations: Declarations, state: State, now: datetime) -> None:
    before = {name: state.read(name) for name in state.glob("pki/**/*")}
    sealing.seal(declarations, state, SECRET)

    with pytest.raises(Mistake, match="the passphrase is wrong"):
        sealing.unseal(declarations, state, lambda _: b"another one")
    sealing.unseal(declarations, state, lambda _: SECRET)

    assert {name: state.read(name) for name in state.glob("pki/**/*")} == before
    assert authority(now) in before


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "stick"
    path.mkdir()
    return path


def test_a_key_that_is_away_is_missed_only_by_what_issues(
    declarations: Declarations, state: State, now: datetime, ensure: Ensure, stick: Path
) -> None:
    sealing.seal(declarations, state, SECRET, stick)
    taken = stick.rename(stick.with_name("in a drawer"))

    assert b"PRIVATE KEY" not in b"".join(state.read(name) for name in state.glob("pki/*/authority-*") if "cluster-signing" not in name)
    assert ensure(never) == {}
    state.path("pki/kubernetes/admin.pem").unlink()
    key = f"authority-{now.year}a.key"
    with pytest.raises(Mistake, match=rf"its key is missing, neither here nor in {key} beside it, and wanted for kubernetes/admin\.pem"):
        ensure(lambda _: SECRET)

    taken.rename(stick)
    assert ensure(lambda _: SECRET) == {"pki/kubernetes/admin.pem": "missing"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in stick.iterdir()} == {0o600}


def test_keys_that_are_apart_come_back(declarations: Declarations, state: State, now: datetime, stick: Path) -> None:
    before = {name: state.read(name) for name in state.glob("pki/**/*")}
    sealing.seal(declarations, state, SECRET)
    sealing.seal(declarations, state, SECRET, stick)

    sealing.unseal(declarations, state, lambda _: SECRET)

    assert {name: state.read(name) for name in state.glob("pki/**/*")} == before
    assert authority(now) in before


def test_a_key_stays_in_state_if_it_cannot_be_written_elsewhere(declarations: Declarations, state: State, tmp_path: Path) -> None:
    before = {name: state.read(name) for name in state.glob("pki/**/*")}

    with pytest.raises(Mistake, match="cannot be written: No such file"):
        sealing.seal(declarations, state, SECRET, tmp_path / "no stick")

    assert {name: state.read(name) for name in state.glob("pki/**/*")} == before


def test_a_certificate_that_is_only_due_waits_for_the_key_and_that_is_told(
    declarations: Declarations, state: State, now: datetime, ensure: Ensure, stick: Path
) -> None:
    sealing.seal(declarations, state, SECRET, stick)
    stick.rename(stick.with_name("in a drawer"))
    told: list[str] = []

    assert ensure(never, at=now + timedelta(days=350), tell=told.append) == {}

    assert len(told) == 3
    assert "not issued for now, as the key of authority kubernetes is not at hand: kubernetes/" in "\n".join(told)
    with pytest.raises(Mistake, match=r"wanted for kubernetes/.* \(expired\)"):
        ensure(never, at=now + timedelta(days=366))


def test_a_daemons_signing_key_that_is_sealed_or_gone_is_refused_at_once(state: State, now: datetime, ensure: Ensure) -> None:
    file = authority(now, "cluster-signing")
    pair = Pair.parse(state.read(file))
    assert pair.key
    state.write(file, pair.certificate_pem + pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET)))
    with pytest.raises(Mistake, match="a daemon signs with its key, which is sealed"):
        ensure(lambda _: SECRET)

    state.write(file, pair.certificate_pem)
    with pytest.raises(Mistake, match="a daemon signs with its key, which is missing"):
        ensure(lambda _: SECRET)


@pytest.mark.parametrize("seal", [False, True])
def test_a_key_of_another_certificate_is_refused(state: State, now: datetime, ensure: Ensure, *, seal: bool) -> None:
    file, other = authority(now), new_key("ec")
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET)) if seal else private_pem(other)
    state.write(file, Pair.parse(state.read(file)).certificate_pem + pem)
    state.path("pki/kubernetes/admin.pem").unlink()

    with pytest.raises(Mistake, match="its key is not the certificate's"):
        ensure(lambda _: SECRET)


def test_a_key_that_openssl_has_encrypted_is_opened(state: State, now: datetime, ensure: Ensure, tmp_path: Path) -> None:
    pair = Pair.parse(state.read(authority(now)))
    assert pair.key
    (tmp_path / "secret").write_bytes(SECRET)
    argv = ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "600000", "-passout", f"file:{tmp_path / 'secret'}"]
    sealed = subprocess.run(argv, input=private_pem(pair.key), stdout=subprocess.PIPE, check=True).stdout
    state.write(authority(now), pair.certificate_pem + sealed)
    state.path("pki/kubernetes/admin.pem").unlink()

    assert ensure(lambda _: SECRET) == {"pki/kubernetes/admin.pem": "missing"}


# Authorities from elsewhere.


def below(above: Pair, name: str, now: datetime, *, ca: bool = True, signs: bool = True, days: int = 900) -> Pair:
    """An authority that another one has signed."""
    key = new_key("ec")
    assert above.key
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=signs, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(above.key, hashes.SHA256())
    )
    return Pair(certificate=certificate, key=key)


@pytest.fixture
def corporate(now: datetime) -> Pair:
    made = root("corporate root", keys="ec", days=3000, now=now)
    key = made.key
    assert key
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.certificate.subject)
        .issuer_name(made.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=3000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return replace(made, certificate=builder.sign(key, hashes.SHA256()))


@pytest.fixture
def fresh(tmp_path: Path) -> State:
    return State(tmp_path / "fresh" / "kit")


def given(tmp_path: Path, *parts: bytes) -> Path:
    path = tmp_path / "own.pem"
    path.write_bytes(b"".join(parts))
    return path


def test_an_authority_below_a_root_of_ones_own_signs_and_only_who_wants_the_root_is_given_it(
    declarations: Declarations, inventory: Inventory, fresh: State, tmp_path: Path, now: datetime, corporate: Pair
) -> None:
    own = below(corporate, "our clusters", now)
    assert own.key
    file = given(tmp_path, own.certificate_pem, corporate.certificate_pem, private_pem(own.key))

    target = sealing.adopt(declarations, inventory, fresh, "kubernetes", file, now)
    issue.ensure(declarations, inventory, fresh, now)

    assert target == authority(now)
    found = credentials(declarations, inventory, fresh)
    admin = Pair.parse(fresh.read("pki/kubernetes/admin.pem"))
    assert own.signed(admin)
    bundles = {str(file.path): file.content for host in inventory.hosts for file in found.files(host) if isinstance(file.content, Text)}
    whole = (own.certificate_pem + corporate.certificate_pem).decode()
    assert bundles["/etc/kubernetes/kube-apiserver-lb/ca.crt"] == Text(whole)
    with_root = [path for path, text in bundles.items() if corporate.certificate_pem.decode() in text.text]
    assert with_root == ["/etc/kubernetes/kube-apiserver-lb/ca.crt"]  # nobody else's clients get in
    assert strangers(whole, found.trusts.values(), now) == ()
    (tmp_path / "bundle").write_text(whole)
    (tmp_path / "admin").write_bytes(admin.certificate_pem)
    argv = ["openssl", "verify", "-CAfile", str(tmp_path / "bundle"), str(tmp_path / "admin")]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert said.stdout.endswith("OK\n"), said
    assert issue.ensure(declarations, inventory, fresh, now) == ()


def test_a_sealed_authority_of_ones_own_stays_sealed(
    declarations: Declarations, inventory: Inventory, fresh: State, tmp_path: Path, now: datetime, corporate: Pair
) -> None:
    assert corporate.key
    sealed = corporate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET))
    sealing.adopt(declarations, inventory, fresh, "etcd", given(tmp_path, corporate.certificate_pem, sealed), now)

    assert b"ENCRYPTED" in fresh.read(authority(now, "etcd"))
    with pytest.raises(Mistake, match="it is sealed, and no passphrase is at hand"):
        issue.ensure(declarations, inventory, fresh, now)
    assert issue.ensure(declarations, inventory, fresh, now, unlock=lambda _: SECRET)


def test_an_authority_that_is_there_is_not_replaced(
    declarations: Declarations, inventory: Inventory, state: State, tmp_path: Path, now: datetime, corporate: Pair
) -> None:
    before = state.read(authority(now))
    with pytest.raises(Mistake, match="authority kubernetes is there already"):
        sealing.adopt(declarations, inventory, state, "kubernetes", given(tmp_path, corporate.pem), now)

    assert state.read(authority(now)) == before


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (lambda ca, now: (below(ca, "x", now, ca=False).pem,), "CN=x is no authority: basicConstraints say so"),
        (lambda ca, now: (below(ca, "x", now, signs=False).pem,), "CN=x may not sign certificates: keyUsage says so"),
        (lambda ca, now: (below(ca, "x", now, days=-1).pem,), "CN=x has expired"),
        (lambda ca, now: (below(ca, "x", now).certificate_pem,), "its key is not in it"),
        (lambda ca, now: (below(ca, "x", now).certificate_pem, private_pem(ca.key)), "its key is not the certificate's"),
        (
            lambda ca, now: (ca.certificate_pem, below(ca, "x", now).pem),
            "the certificate of x behind it did not sign that of corporate root",
        ),
        (lambda _, __: (b"nothing",), "no certificate can be read"),
    ],
)
def test_what_cannot_be_an_authority_is_refused_and_nothing_is_written(  # noqa: PLR0917 - what all of these tests stand on
    declarations: Declarations,
    inventory: Inventory,
    fresh: State,
    tmp_path: Path,
    now: datetime,
    corporate: Pair,
    parts: Callable[[Pair, datetime], tuple[bytes, ...]],
    told: str,
) -> None:
    with pytest.raises(Mistake, match=told):
        sealing.adopt(declarations, inventory, fresh, "kubernetes", given(tmp_path, *parts(corporate, now)), now)

    assert fresh.glob("**/*") == ()


def test_the_next_generation_of_a_sealed_authority_is_sealed_by_the_same_passphrase(
    declarations: Declarations, inventory: Inventory, state: State, now: datetime
) -> None:
    sealing.seal(declarations, state, SECRET)
    one = kubernetes(declarations)

    new = succession.prepare(one, inventory, state, now, lambda _: SECRET)

    assert state.read(new.file).count(b"PRIVATE KEY") == 2  # of one that is encrypted: its begin and its end
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in state.read(new.file)
    assert succession.switch(one, inventory, state, now, unlock=lambda _: SECRET)
    assert succession.trust(state, "kubernetes").signer == new


@pytest.mark.parametrize("unlock", [kept.locked, lambda _: b"another"], ids=["none", "a wrong one"])
def test_without_its_passphrase_a_sealed_authority_gets_no_next_generation(
    declarations: Declarations, inventory: Inventory, state: State, now: datetime, unlock: kept.Unlock
) -> None:
    sealing.seal(declarations, state, SECRET)
    before = state.glob("pki/kubernetes/authority-*")

    with pytest.raises(Mistake):
        succession.prepare(kubernetes(declarations), inventory, state, now, unlock)

    assert state.glob("pki/kubernetes/authority-*") == before


def test_a_sealed_authority_whose_key_is_elsewhere_gets_no_next_generation_that_lies_open(
    declarations: Declarations, inventory: Inventory, state: State, now: datetime, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    sealing.seal(declarations, state, SECRET, stick)
    away = stick.rename(tmp_path / "drawer")

    with pytest.raises(Mistake, match="wanted for the next generation"):
        succession.prepare(kubernetes(declarations), inventory, state, now, lambda _: SECRET)

    away.rename(stick)
    new = succession.prepare(kubernetes(declarations), inventory, state, now, lambda _: SECRET)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in state.read(new.file)
