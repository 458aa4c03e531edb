"""Real handshakes, with certificates that were issued as for a cluster."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from hardway.desired import File, Secret, Text
from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import issue, tls
from hardway.pki.credentials import Credentials
from hardway.pki.declared import Declarations
from hardway.pki.pair import leaf, root
from hardway.pki.request import requests
from hardway.state import State


@pytest.fixture(scope="module")
def credentials(declarations: Declarations, inventory: Inventory, pristine: State) -> Credentials:
    return issue.credentials(declarations, inventory, pristine)


@pytest.fixture
def on_host(credentials: Credentials, inventory: Inventory) -> Callable[[str], Secret | Text]:
    files: dict[str, File] = {str(file.path): file for file in credentials.files(inventory.hosts[1])}  # type: ignore[type-arg]

    def content(path: str) -> Secret | Text:
        found = files[path].content
        assert isinstance(found, Secret | Text)
        return found

    return content


def server(pair: Secret, trusted: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=trusted)
    tls.show(context, pair)
    return context


def shake(client: ssl.SSLContext, other: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends in one thread, over memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(down, up, server_hostname=name)
    answers = other.wrap_bio(up, down, server_side=True)
    waiting = {asks, answers}
    while waiting:
        for end in (asks, answers):
            try:
                end.do_handshake()
                waiting.discard(end)
            except ssl.SSLWantReadError:
                pass
    return asks, answers


Content = Callable[[str], Secret | Text]


def text(content: Secret | Text) -> str:
    assert isinstance(content, Text)
    return content.text


def secret(content: Secret | Text) -> Secret:
    assert isinstance(content, Secret)
    return content


@pytest.fixture
def apiserver(on_host: Content) -> ssl.SSLContext:
    here = "/etc/kubernetes/kube-apiserver"
    return server(secret(on_host(f"{here}/serving.pem")), text(on_host(f"{here}/client-ca.crt")))


@pytest.mark.parametrize("name", ["kubernetes", "10.240.0.10", "127.0.0.1", "::1", "kubernetes.default.svc.cluster.local"])
def test_the_administrator_and_an_api_server_know_each_other(
    credentials: Credentials, inventory: Inventory, apiserver: ssl.SSLContext, name: str
) -> None:
    client = tls.client(trusted=credentials.trusts["kubernetes"].bundle, pair=credentials.operator("admin"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    asks, answers = shake(client, apiserver, name)

    shown = asks.getpeercert(binary_form=True)
    assert shown is not None
    assert tls.shown(shown).serial == credentials.serial("kube-apiserver", inventory.hosts[1])
    peer = answers.getpeercert()
    assert peer is not None
    assert peer["subject"] == ((("organizationName", "hardway:administrators"),), (("commonName", "kubernetes-admin"),))
    assert asks.version() == "TLSv1.3"


def test_members_of_etcd_know_each_other(on_host: Content) -> None:
    peer, ca = secret(on_host("/etc/etcd/pki/peer.pem")), text(on_host("/etc/etcd/pki/ca.crt"))

    shake(tls.client(trusted=ca, pair=peer), server(peer, ca), "10.240.0.11")


def test_an_authority_that_is_not_trusted_is_refused(credentials: Credentials, apiserver: ssl.SSLContext) -> None:
    client = tls.client(trusted=credentials.trusts["etcd"].bundle, pair=credentials.operator("admin"))

    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client, apiserver, "kubernetes")


def test_another_name_is_refused_unless_names_are_not_checked(credentials: Credentials, apiserver: ssl.SSLContext) -> None:
    trusted, pair = credentials.trusts["kubernetes"].bundle, credentials.operator("admin")

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(tls.client(trusted=trusted, pair=pair), apiserver, "controller-2")
    shake(tls.client(trusted=trusted, pair=pair, check_hostname=False), apiserver, "controller-2")


@pytest.mark.parametrize("operator", ["etcd-operator", None])
def test_a_client_of_another_authority_or_without_a_certificate_is_refused(
    credentials: Credentials, apiserver: ssl.SSLContext, operator: str | None
) -> None:
    pair = credentials.operator(operator) if operator else None
    client = tls.client(trusted=credentials.trusts["kubernetes"].bundle, pair=pair)

    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        shake(client, apiserver, "kubernetes")


def test_a_look_sees_also_a_certificate_that_nobody_would_accept(declarations: Declarations, inventory: Inventory, now: datetime) -> None:
    (wanted,) = (one for one in requests(declarations, inventory) if one.file == "pki/etcd/etcd-peer@controller-1.pem")
    stranger = root("stranger", keys="ec", days=900, now=now - timedelta(days=800))
    expired = leaf(wanted, stranger, now=now - timedelta(days=400))

    asks, _ = shake(tls.look(), listener(Secret(expired.pem)), "anything")

    shown = tls.shown(asks.getpeercert(binary_form=True) or b"")
    assert (shown.serial, shown.issuer) == (expired.certificate.serial_number, "stranger")
    assert shown.not_after == now - timedelta(days=35)


def listener(pair: Secret) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.show(context, pair)
    return context


def test_old_versions_of_tls_are_refused(credentials: Credentials) -> None:
    assert tls.client(trusted=credentials.trusts["kubernetes"].bundle).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_pair_that_is_none_is_a_mistake_that_shows_nothing(credentials: Credentials) -> None:
    with pytest.raises(Mistake, match="cannot be used for TLS") as caught:
        tls.client(trusted=credentials.trusts["kubernetes"].bundle, pair=Secret(b"canary"))

    assert "canary" not in str(caught.value)
