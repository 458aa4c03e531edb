from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import issue
from hardway.pki.declared import Declarations
from hardway.pki.pair import Pair, leaf, new_key, private_key, private_pem, root
from hardway.pki.request import requests
from hardway.state import State

Ensure = Callable[..., dict[str, str]]
PEER = "pki/etcd/etcd-peer@controller-1.pem"
ETCD = "pki/etcd/authority-{year}a.pem"


@pytest.fixture
def state(issued: State) -> State:
    return issued


@pytest.fixture
def empty(state: State) -> State:
    shutil.rmtree(state.root)
    return state


@pytest.fixture
def ensure(declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> Ensure:
    def run(*, at: datetime = now, of: Inventory = inventory, declared: Declarations = declarations) -> dict[str, str]:
        return {made.file: made.why for made in issue.ensure(declared, of, state, at)}

    return run


@pytest.fixture
def etcd(now: datetime) -> str:
    return ETCD.format(year=now.year)


def content(state: State) -> dict[str, bytes]:
    return {name: state.read(name) for name in state.glob("**/*")}


def test_everything_is_made_once_and_a_second_run_makes_nothing(ensure: Ensure, empty: State) -> None:
    made = ensure()
    before = content(empty)

    assert set(made) == set(before)
    assert set(made.values()) == {"missing"}
    assert len(made) == 2 + 4 + 2 * 11 + 3 + 2  # keys, authorities, of each controller, of the worker, the operator's
    assert ensure() == {}
    assert content(empty) == before


def test_what_is_made_is_told_in_one_line(declarations: Declarations, inventory: Inventory, empty: State, now: datetime) -> None:
    made = issue.ensure(declarations, inventory, empty, now)

    assert "etcd/etcd-peer@controller-1.pem: missing" in map(str, made)


def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(ensure: Ensure, empty: State, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        pass

    write, left = State.write, 0

    def killed(self: State, name: str, data: bytes) -> None:
        nonlocal left
        if not left:
            raise KilledError
        left -= 1
        write(self, name, data)

    for after in range(29):
        left = 1
        monkeypatch.setattr(State, "write", killed)
        with pytest.raises(KilledError):
            ensure()
        assert len(content(empty)) == after + 1
    monkeypatch.setattr(State, "write", write)
    kept = content(empty)
    ensure()

    assert content(empty).items() >= kept.items()
    assert ensure() == {}


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda _: b"", "no certificate can be read"),
        (lambda pem: pem[:200], "no certificate can be read"),
        (lambda pem: pem.partition(b"-----BEGIN PRIVATE")[0], "its key is missing"),
        (lambda pem: pem.replace(b"PRIVATE KEY-----\nMI", b"PRIVATE KEY-----\nXX", 1), "its key cannot be read"),
        (lambda pem: pem.partition(b"-----BEGIN PRIVATE")[0] + private_pem(new_key("ec")), "its key is not the certificate's"),
    ],
)
def test_a_damaged_certificate_is_made_again_and_no_other(ensure: Ensure, state: State, damage: Callable[[bytes], bytes], why: str) -> None:
    state.write(PEER, damage(state.read(PEER)))

    assert ensure() == {PEER: why}
    assert ensure() == {}


def test_certificates_are_renewed_in_their_window_and_not_before(ensure: Ensure, state: State, now: datetime) -> None:
    authorities = {name: data for name, data in content(state).items() if "authority-" in name or "key-" in name}

    assert ensure(at=now + timedelta(days=334)) == {}
    due = now + timedelta(days=336)
    assert set(ensure(at=due).values()) == {f"expires on {now + timedelta(days=365):%Y-%m-%d}"}
    assert ensure(at=due) == {}
    assert content(state).items() >= authorities.items()


def test_certificates_that_were_chosen_are_made_again_and_no_others(
    declarations: Declarations, inventory: Inventory, state: State, now: datetime
) -> None:
    before = content(state)

    made = issue.ensure(declarations, inventory, state, now, chosen=lambda one: one.file == PEER)

    assert [str(one) for one in made] == [f"{PEER.removeprefix('pki/')}: asked for"]
    assert {name for name, data in content(state).items() if before[name] != data} == {PEER}


@pytest.mark.usefixtures("empty")
def test_a_short_life_is_renewed_in_its_last_third_and_not_always(ensure: Ensure, declarations: Declarations, now: datetime) -> None:
    authorities = tuple(
        replace(authority, certificates={name: replace(one, days=6) for name, one in authority.certificates.items()})
        for authority in declarations.authorities
    )
    short = replace(declarations, authorities=authorities)
    ensure(declared=short)

    assert ensure(declared=short, at=now + timedelta(days=3, hours=23)) == {}
    assert set(ensure(declared=short, at=now + timedelta(days=4, hours=1)).values()) == {f"expires on {now + timedelta(days=6):%Y-%m-%d}"}
    assert ensure(declared=short, at=now + timedelta(days=4, hours=1)) == {}


def test_an_expired_certificate_is_said_to_be_so(ensure: Ensure, now: datetime) -> None:
    assert set(ensure(at=now + timedelta(days=400)).values()) == {"expired"}


def test_no_certificate_outlives_its_authority_and_none_is_renewed_for_that(ensure: Ensure, state: State, now: datetime, etcd: str) -> None:
    late = now + timedelta(days=3600)
    ensure(at=late)

    assert Pair.parse(state.read(PEER)).certificate.not_valid_after_utc == Pair.parse(state.read(etcd)).certificate.not_valid_after_utc
    assert ensure(at=late + timedelta(days=40)) == {}


def test_a_certificate_from_the_future_is_made_again(ensure: Ensure, now: datetime) -> None:
    made = ensure(at=now - timedelta(hours=1))

    assert len(made) == 27
    assert all(why.startswith("not valid before") for why in made.values())


def test_another_san_makes_the_certificates_that_carry_it_again(ensure: Ensure, inventory: Inventory) -> None:
    first, second, *others = inventory.hosts
    more = replace(inventory, hosts=(first, replace(second, sans=("other.example.com",)), *others))

    assert ensure(of=more) == {
        "pki/kubernetes/kube-apiserver@controller-1.pem": (
            "names missing: other.example.com; names no longer wanted: 203.0.113.7, api.example.com"
        )
    }
    assert ensure(of=more) == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"subject": "CN=else, O=group"}, "its subject is CN=controller-1, declared is CN=else, O=group"),
        ({"usages": ("client",)}, "its usages are not as declared: client"),
        ({"sans": ()}, "names no longer wanted: 10.240.0.11, 127.0.0.1, ::1, controller-1, localhost"),
    ],
)
def test_another_declaration_makes_its_certificate_again(
    ensure: Ensure, declarations: Declarations, change: dict[str, object], why: str
) -> None:
    authorities = []
    for authority in declarations.authorities:
        changed = {name: replace(one, **change) if name == "etcd-peer" else one for name, one in authority.certificates.items()}  # type: ignore[arg-type] # fields by name
        authorities.append(replace(authority, certificates=changed))
    declared = replace(declarations, authorities=tuple(authorities))

    made = ensure(declared=declared)

    assert set(made) == {PEER, PEER.replace("-1", "-2")}
    assert made[PEER] == why
    assert ensure(declared=declared) == {}


def test_other_keys_are_made_for_leaves_and_never_for_an_authority(
    ensure: Ensure, declarations: Declarations, inventory: Inventory, state: State, etcd: str
) -> None:
    only = replace(declarations, authorities=tuple(one for one in declarations.authorities if one.authority == "etcd"))
    of = replace(inventory, keys="rsa", hosts=inventory.hosts[:2])

    made = ensure(of=of, declared=only)

    assert len(made) == 5
    assert set(made.values()) == {"its key is not of the declared type, rsa"}
    assert isinstance(Pair.parse(state.read(PEER)).key, rsa.RSAPrivateKey)
    assert isinstance(Pair.parse(state.read(etcd)).key, ec.EllipticCurvePrivateKey)
    assert ensure(of=of, declared=only) == {}


def test_without_a_signer_of_csrs_there_is_no_authority_for_it(ensure: Ensure, inventory: Inventory, empty: State) -> None:
    assert not empty.root.exists()
    assert not [name for name in ensure(of=replace(inventory, csr_signer="none")) if "cluster-signing" in name]


def test_the_keys_are_of_their_kinds(state: State, now: datetime) -> None:
    assert len(base64.b64decode(state.read(f"pki/encryption/key-{now.year}a"), validate=True)) == 32
    assert isinstance(private_key(state.read(f"pki/service-account/key-{now.year}a.pem")), ec.EllipticCurvePrivateKey)


# What issuing cannot repair.


def without_key(pem: bytes) -> bytes:
    return pem.partition(b"-----BEGIN PRIVATE")[0]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            without_key,
            r"authority etcd: its key is missing, neither here nor in authority-\d{4}a.key beside it, .* restore it from a backup",
        ),
        (lambda pem: without_key(pem) + private_pem(new_key("ec")), "authority etcd: its key is not the certificate's"),
        (lambda _: b"garbage", "authority etcd: no certificate can be read"),
    ],
)
def test_an_authority_is_never_replaced_by_itself(
    ensure: Ensure, state: State, etcd: str, damage: Callable[[bytes], bytes], told: str
) -> None:
    state.write(etcd, damage(state.read(etcd)))
    state.path(PEER).unlink()
    before = content(state)

    with pytest.raises(Mistake, match=told):
        ensure()

    assert content(state) == before


def test_a_leaf_is_no_authority(ensure: Ensure, state: State, etcd: str) -> None:
    state.write(etcd, state.read(PEER))

    with pytest.raises(Mistake, match="it is no certificate of an authority"):
        ensure()


def test_certificates_without_their_authority_are_a_mistake(ensure: Ensure, state: State, etcd: str) -> None:
    state.path(etcd).unlink()

    with pytest.raises(Mistake, match="but not the authority that signed them; restore pki/etcd/authority"):
        ensure()


def test_an_expired_authority_stops_the_run(ensure: Ensure, state: State, now: datetime) -> None:
    before = content(state)

    with pytest.raises(Mistake, match=r"authority etcd has expired on .*; `./inv rotate.authority etcd`") as caught:
        ensure(at=now + timedelta(days=3700))

    assert len(caught.value.findings) == 4  # all of them at once
    assert content(state) == before


@pytest.mark.parametrize("name", ["encryption", "service-account"])
def test_a_lost_key_is_not_replaced(ensure: Ensure, state: State, name: str) -> None:
    state.path(state.glob(f"pki/{name}/key-*")[0]).unlink()

    with pytest.raises(Mistake, match=f"the key is missing, and the cluster's authorities are not; restore pki/{name} from a backup"):
        ensure()


@pytest.mark.parametrize(("name", "told"), [("encryption", "is no key of 32 bytes"), ("service-account", "its key cannot be read")])
def test_a_damaged_key_is_not_replaced(ensure: Ensure, state: State, name: str, told: str) -> None:
    (file,) = state.glob(f"pki/{name}/key-*")
    state.write(file, b"Y2FuYXJ5")

    with pytest.raises(Mistake, match=told) as caught:
        ensure()

    assert "Y2FuYXJ5" not in str(caught.value)


def test_all_that_issuing_cannot_repair_is_told_at_once(ensure: Ensure, state: State, etcd: str) -> None:
    state.path(etcd).unlink()
    state.write(etcd.replace("etcd", "kubernetes"), b"")
    state.path(state.glob("pki/encryption/key-*")[0]).unlink()

    with pytest.raises(Mistake) as caught:
        ensure()

    assert len(caught.value.findings) == 3


# Several generations.


def add_generation(state: State, now: datetime) -> str:
    file = ETCD.format(year=now.year).replace("a.pem", "b.pem")
    state.write(file, root(f"etcd-ca-{now.year}b", keys="ec", days=3650, now=now).pem)
    return file


def test_a_generation_that_was_only_added_signs_nothing(ensure: Ensure, state: State, now: datetime) -> None:
    add_generation(state, now)

    assert ensure() == {}
    state.path(PEER).unlink()
    ensure()
    assert Pair.parse(state.read(PEER)).issuer == f"etcd-ca-{now.year}a"


def test_a_switch_that_was_interrupted_goes_on(
    ensure: Ensure, declarations: Declarations, inventory: Inventory, state: State, now: datetime
) -> None:
    second = state.read(add_generation(state, now))
    (request,) = (one for one in requests(declarations, inventory) if one.file == PEER)
    state.write(PEER, leaf(request, Pair.parse(second), now=now).pem)

    made = ensure()

    assert len(made) == 2 * 4 + 1 - 1
    assert set(made.values()) == {f"signed by etcd-ca-{now.year}a, not by etcd-ca-{now.year}b"}
    assert ensure() == {}


def test_a_certificate_of_another_authority_of_the_same_name_is_made_again(ensure: Ensure, state: State, now: datetime, etcd: str) -> None:
    other = root(f"etcd-ca-{now.year}a", keys="ec", days=3650, now=now)
    state.write(etcd, other.pem)

    assert set(ensure().values()) == {f"signed by another etcd-ca-{now.year}a, not by etcd-ca-{now.year}a"}


def test_an_authority_from_elsewhere_may_lack_a_key_identifier(ensure: Ensure, state: State, now: datetime, etcd: str) -> None:
    key = new_key("rsa")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "theirs")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=900))
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    state.write(etcd, Pair(certificate=certificate, key=key).pem)

    assert len(ensure()) == 9
    assert ensure() == {}
    assert Pair.parse(state.read(PEER)).issuer == "theirs"


def test_a_certificate_that_is_kept_in_memory_alone(state: State, now: datetime) -> None:
    before = content(state)

    secret = issue.short_lived(state, "kubernetes", "hardway:first", "system:masters", 5, now)

    pair = Pair.parse(secret.data)
    assert pair.certificate.subject.rfc4514_string() == "CN=hardway:first,O=system:masters"
    assert pair.certificate.not_valid_after_utc == now + timedelta(minutes=5)
    assert content(state) == before


def test_nothing_is_signed_without_an_authority(empty: State, now: datetime) -> None:
    with pytest.raises(Mistake, match="no authority is here"):
        issue.short_lived(empty, "kubernetes", "a", None, 5, now)


def test_a_draft_is_told_by_the_name_that_stays(declarations: Declarations, inventory: Inventory, state: State, now: datetime) -> None:
    state.path(PEER).unlink()
    etcd = ETCD.format(year=now.year)
    state.write(etcd, Pair.parse(state.read(etcd)).certificate_pem)

    with state.draft() as draft, pytest.raises(Mistake) as refused:
        issue.ensure(declarations, inventory, draft.state, now)

    assert refused.value.findings[0].where == str(state.path(etcd))
