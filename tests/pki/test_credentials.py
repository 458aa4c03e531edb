from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from hardway.desired import Content, File, Pickup, Secret, Text
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.pki import issue
from hardway.pki.credentials import Credentials
from hardway.pki.declared import Declarations
from hardway.pki.pair import Pair, new_key, private_pem, root
from hardway.state import State


@pytest.fixture(scope="module")
def credentials(declarations: Declarations, inventory: Inventory, pristine: State) -> Credentials:
    return issue.credentials(declarations, inventory, pristine)


@pytest.fixture
def state(issued: State) -> State:
    return issued


@pytest.fixture
def controller(inventory: Inventory) -> Host:
    return inventory.hosts[1]


def found(files: Iterable[File[Content]], path: str) -> File[Content]:
    (file,) = (file for file in files if str(file.path) == path)
    return file


def shape(credentials: Credentials, inventory: Inventory) -> object:
    return {host.name: [(file.path, file.uses, file.owner, file.mode) for file in credentials.files(host)] for host in inventory.hosts}


def test_each_host_gets_what_its_roles_read_and_nothing_else(credentials: Credentials, inventory: Inventory) -> None:
    lb, first, second, worker = inventory.hosts

    assert [str(file.path) for file in credentials.files(lb)] == ["/etc/kubernetes/kube-apiserver-lb/ca.crt"]
    assert {file.path.parent.name for file in credentials.files(worker)} == {"kubelet", "kube-proxy"}
    assert [file.path for file in credentials.files(first)] == [file.path for file in credentials.files(second)]
    assert len(credentials.files(first)) == 24


def test_keys_are_for_one_group_and_bundles_for_all(credentials: Credentials, controller: Host) -> None:
    for file in credentials.files(controller):
        if isinstance(file.content, Secret):
            group = file.owner.removeprefix("root:")
            assert file.mode == (0o600 if group == "root" else 0o640)
            assert b"PRIVATE KEY-----" in file.content.data
        else:
            assert isinstance(file.content, Text)
            assert (file.owner, file.mode) == ("root:root", 0o644)
            assert "PRIVATE KEY" not in file.content.text


def test_two_authorities_share_a_bundle(credentials: Credentials, controller: Host) -> None:
    bundle = found(credentials.files(controller), "/etc/kubernetes/kube-apiserver/client-ca.crt")

    assert isinstance(bundle.content, Text)
    assert bundle.content.text == credentials.trusts["cluster-signing"].bundle + credentials.trusts["kubernetes"].bundle


def test_without_a_signer_of_csrs_no_host_has_the_key_of_an_authority(
    declarations: Declarations, inventory: Inventory, controller: Host
) -> None:
    files = issue.placeholders(declarations, replace(inventory, csr_signer="none")).files(controller)

    assert not [file for file in files if file.path.name == "cluster-signing.pem"]
    bundle = found(files, "/etc/kubernetes/kube-apiserver/client-ca.crt").content
    assert isinstance(bundle, Text)
    assert bundle.text.count("certificate of authority") == 1


def test_the_signing_pair_is_one_generation_and_its_bundle_two(
    declarations: Declarations, inventory: Inventory, state: State, now: datetime, controller: Host
) -> None:
    state.write(f"pki/cluster-signing/authority-{now.year}b.pem", root("next", keys="ec", days=1, now=now).pem)

    files = issue.credentials(declarations, inventory, state).files(controller)

    signing = found(files, "/etc/kubernetes/kube-controller-manager/cluster-signing.pem").content
    assert isinstance(signing, Secret)
    assert signing.data.count(b"BEGIN CERTIFICATE") == 1
    assert Pair.parse(signing.data).common_name == f"cluster-signing-{now.year}a"
    bundle = found(files, "/etc/kubernetes/kube-apiserver/client-ca.crt").content
    assert isinstance(bundle, Text)
    assert bundle.text.count("BEGIN CERTIFICATE") == 3


def test_the_newest_key_signs_and_all_of_them_verify(
    declarations: Declarations, inventory: Inventory, state: State, now: datetime, controller: Host
) -> None:
    newest = private_pem(new_key("ec"))
    state.write(f"pki/service-account/key-{now.year}b.pem", newest)
    state.write(f"pki/encryption/key-{now.year}b", base64.b64encode(b"b" * 32))

    both = issue.credentials(declarations, inventory, state)

    assert found(both.files(controller), "/etc/kubernetes/kube-apiserver/service-account.pem").content == Secret(newest)
    public = found(both.files(controller), "/etc/kubernetes/kube-apiserver/service-account.pub").content
    assert isinstance(public, Text)
    assert public.text.count("BEGIN PUBLIC KEY") == 2
    assert [key.name for key in both.encryption_keys] == [f"key-{now.year}b", f"key-{now.year}a"]
    assert both.encryption_keys[0].secret == base64.b64encode(b"b" * 32).decode()


def test_the_serial_is_that_of_the_file(credentials: Credentials, controller: Host) -> None:
    peer = found(credentials.files(controller), "/etc/etcd/pki/peer.pem").content
    assert isinstance(peer, Secret)

    assert credentials.serial("etcd-peer", controller) == Pair.parse(peer.data).certificate.serial_number
    assert credentials.serial("admin") == Pair.parse(credentials.operator("admin").data).certificate.serial_number


def test_of_two_ways_to_pick_a_file_up_the_stronger_is_kept(declarations: Declarations, inventory: Inventory, controller: Host) -> None:
    signing, *others = declarations.authorities
    restarts = [replace(place, read_by=dict.fromkeys(place.read_by, Pickup.RESTART)) for place in signing.trusted_in]
    authorities = (replace(signing, trusted_in=tuple(restarts)), *others)

    files = issue.placeholders(replace(declarations, authorities=authorities), inventory).files(controller)

    (use,) = found(files, "/etc/kubernetes/kube-apiserver/client-ca.crt").uses
    assert (use.reader, use.pickup.value) == ("kube-apiserver.service", "restart")


def test_what_was_not_issued_is_told_at_once(declarations: Declarations, inventory: Inventory, state: State) -> None:
    state.path("pki/etcd/etcd-peer@controller-1.pem").unlink()
    state.write("pki/etcd/etcd-peer@controller-2.pem", b"")
    state.path(state.glob("pki/encryption/key-*")[0]).unlink()

    with pytest.raises(Mistake) as caught:
        issue.credentials(declarations, inventory, state)

    assert [finding.what for finding in caught.value.findings] == ["is missing", "no certificate can be read", "is missing"]


def test_where_nothing_was_ever_issued_one_line_says_so(declarations: Declarations, inventory: Inventory, tmp_path: Path) -> None:
    with pytest.raises(Mistake) as caught:
        issue.credentials(declarations, inventory, State(tmp_path / "kit"))

    (finding,) = caught.value.findings
    assert (finding.where, finding.what) == (str(tmp_path / "kit" / "pki"), "there is nothing")
    assert "`./inv push` makes all" in finding.next_step


@pytest.mark.parametrize("name", ["encryption", "service-account"])
def test_a_key_that_cannot_be_read_is_a_mistake(declarations: Declarations, inventory: Inventory, state: State, name: str) -> None:
    (file,) = state.glob(f"pki/{name}/key-*")
    state.write(file, b"Y2FuYXJ5")

    with pytest.raises(Mistake, match="restore it from a backup") as caught:
        issue.credentials(declarations, inventory, state)

    assert "Y2FuYXJ5" not in str(caught.value)


def test_placeholders_need_no_state_and_have_the_shape_of_the_real_files(
    credentials: Credentials, declarations: Declarations, inventory: Inventory
) -> None:
    placeholders = issue.placeholders(declarations, inventory)

    assert shape(placeholders, inventory) == shape(credentials, inventory)
    assert placeholders.files(inventory.hosts[1]) == issue.placeholders(declarations, inventory).files(inventory.hosts[1])


def test_a_placeholder_reads_as_what_is_declared(declarations: Declarations, inventory: Inventory, controller: Host) -> None:
    file = found(issue.placeholders(declarations, inventory).files(controller), "/etc/etcd/pki/peer.pem")

    assert file.content == Text("""\
certificate etcd-peer
  subject: CN=controller-1
  issuer: CN=etcd-ca-<generation>
  usages: server, client
  name: DNS:controller-1
  name: DNS:localhost
  name: IP:10.240.0.11
  name: IP:127.0.0.1
  name: IP:::1
  key: EC P-256
  days: 365
(a private key: not shown)
""")


def private_part(pem: bytes) -> set[str]:
    """The canaries. The third line of a P-256 key is its public half, which is no secret."""
    lines = pem.decode().partition("-----BEGIN PRIVATE KEY-----\n")[2].splitlines()
    return set(lines[:2])


def test_no_key_is_ever_shown(
    credentials: Credentials, declarations: Declarations, inventory: Inventory, state: State, now: datetime
) -> None:
    (encryption,) = state.glob("pki/encryption/*")
    short = issue.short_lived(state, "kubernetes", "a", None, 5, now)
    canaries = {state.read(encryption).decode(), *private_part(short.data)}
    canaries = canaries.union(*(private_part(state.read(name)) for name in state.glob("pki/**/*.pem")))
    assert len(canaries) == 1 + 2 * (1 + len(state.glob("pki/**/*.pem")))
    pair = Pair.parse(state.read("pki/kubernetes/admin.pem"))
    files = credentials.files(inventory.hosts[1])
    objects = [credentials, credentials.encryption_keys, credentials.operator("admin"), credentials.placed, short, pair, pair.key, state]
    objects += [*issue.ensure(declarations, inventory, state, now), *files]

    told = "".join(f"{one!r}{one}" for one in objects)
    for one in (credentials, credentials.encryption_keys[0], short, files[1]):
        with pytest.raises(TypeError) as caught:
            json.dumps(one)
        told += "".join(traceback.format_exception(caught.value))
    for name, old, new in (
        (encryption, b"=", b"x="),
        ("pki/kubernetes/admin.pem", b"MI", b"XX"),
        (f"pki/etcd/authority-{now.year}a.pem", b"PRIVATE KEY-----\nM", b"PRIVATE KEY-----\nX"),
    ):
        state.write(name, state.read(name).replace(old, new))
    for act in (issue.ensure, lambda *args: issue.credentials(*args[:3])):
        with pytest.raises(Mistake) as refused:
            act(declarations, inventory, state, now)
        told += "".join(traceback.format_exception(refused.value)) + repr(refused.value)

    assert "its key cannot be read" in told
    assert [line for line in canaries if line in told] == []
