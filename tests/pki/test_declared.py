from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.pki import declared
from hardway.pki.declared import FIRST_LINE, Declarations


@pytest.fixture
def copied(certs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(certs, tmp_path / "certs"))


def refused(directory: Path) -> str:
    with pytest.raises(Mistake) as caught:
        declared.load(directory)
    return str(caught.value)


def test_what_is_shipped_declares_four_authorities_a_key_pair_and_encryption(declarations: Declarations) -> None:
    assert [one.authority for one in declarations.authorities] == ["cluster-signing", "etcd", "front-proxy", "kubernetes"]
    assert [one.key_pair for one in declarations.key_pairs] == ["service-account"]
    assert declarations.encryption is not None


def test_whatever_a_daemon_reads_is_in_its_own_directory(declarations: Declarations) -> None:
    places = [(p.path, p.owner, p.read_by) for a in declarations.authorities for p in (*a.trusted_in, *a.signs_in)]
    places += [(p.path, p.owner, p.read_by) for k in declarations.key_pairs for p in (*k.private_in, *k.public_in)]
    places += [(c.path, c.owner, c.read_by) for a in declarations.authorities for c in a.certificates.values() if c.path]
    for path, owner, read_by in places:
        units = {reader.removesuffix(".service") for reader in read_by if reader.endswith(".service")}
        if units:
            (unit,) = units
            assert str(path.parent) == ("/etc/etcd/pki" if unit == "etcd" else f"/etc/kubernetes/{unit}")
            assert owner in {"root:root", f"root:{unit}"}


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("etcd.yaml", FIRST_LINE, "# keys", "etcd.yaml:1: does not say that it is a declaration"),
        ("etcd.yaml", "authority: etcd", "authority: etc", "'etc' is not the name of the file, etcd"),
        ("etcd.yaml", "usages: [client]", "usage: [client]", "did you mean usages?"),
        ("etcd.yaml", "sans: [host.name,", "sans: [hostname,", "did you mean host.name?"),
        ("etcd.yaml", "usages: [client]", "usages: []", "usages is empty"),
        ("etcd.yaml", "CN={host.name}", "CN={host.nane}", "nothing is known to fill in {host.nane}; known: cluster, host.name"),
        ("etcd.yaml", "CN={host.name}", "'{{ host.name }}'", "subject is not of the form"),
        ("etcd.yaml", "CN=etcd-operator", "CN={host.name}", "nothing is known to fill in {host.name}; known: cluster"),
        ("etcd.yaml", "role: operator", "role: operator\n    path: /root/x", "stays in state/"),
        ("etcd.yaml", "    path: /etc/etcd/pki/server.pem\n", "", "path is missing"),
        ("etcd.yaml", "path: /etc/etcd/pki/server.pem", "path: etc/server.pem", "is not absolute"),
        ("etcd.yaml", "path: /etc/etcd/pki/server.pem", "path: /etc/../server.pem", "is not absolute"),
        ("etcd.yaml", "path: /etc/etcd/pki/server.pem", "path: /etc/etcd/pki/peer.pem", "peer.pem is declared twice"),
        ("etcd.yaml", "path: /etc/etcd/pki/server.pem", "path: /etc/etcd/pki/ca.crt", "ca.crt is declared twice"),
        ("etcd.yaml", "owner: root:etcd", "owner: etcd", "is not user:group"),
        ("etcd.yaml", "{etcd.service: handshake}", "{}", "nobody reads this file"),
        ("etcd.yaml", "{etcd.service: handshake}", "{etcd.service: sometime}", '"sometime" is not one of'),
        ("etcd.yaml", "{etcd.service: handshake}", "{'etcd service': handshake}", "neither a unit nor a program"),
        ("etcd.yaml", "    sans: [host.name, host.address, loopback]\n", "", "a server certificate needs sans"),
        ("etcd.yaml", "usages: [client]", "usages: [client]\n    days: 4000", "days must be 1 to 3650"),
        ("etcd.yaml", "common_name: etcd-ca", "common_name: etcd-ca\ndays: 0", "must be one or more"),
        ("etcd.yaml", "  etcdctl:", "  authority-2026a:", "is an authority's own"),
        ("etcd.yaml", "  etcdctl:", "  ETCDCTL:", "small letters"),
        ("etcd.yaml", "  etcdctl:", "  admin:", "certificate admin is declared twice"),
        ("etcd.yaml", "  etcdctl:", "  etcd-peer:", "is there twice"),
        ("kubernetes.yaml", "kubelet_tls: issued #", "kubelet_tls: asked #", '"asked" is not one of'),
        ("encryption.yaml", "secretbox", "aescbc", '"aescbc" is not secretbox'),
        ("encryption.yaml", "encryption:", "encrypt:", "declares nothing"),
        ("service-account.yaml", "public_in:", "publicin:", "did you mean public_in?"),
        (
            "service-account.yaml",
            "owner: root:kube-apiserver",
            "owner: kube",
            "service-account.yaml:6 private_in[0]: owner 'kube' is not user:group",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(copied: Path, file: str, old: str, new: str, told: str) -> None:
    text = (copied / file).read_text()
    assert old in text
    (copied / file).write_text(text.replace(old, new))

    assert told in refused(copied)


def test_all_that_is_wrong_is_told_at_once(copied: Path) -> None:
    for file, old in (("etcd.yaml", "usages: [client]"), ("kubernetes.yaml", "usages: [client]")):
        (copied / file).write_text((copied / file).read_text().replace(old, "usages: []"))

    lines = refused(copied).splitlines()

    assert [line.partition(":")[0].rpartition("/")[2] for line in lines] == ["etcd.yaml"] * 3 + ["kubernetes.yaml"] * 6


@pytest.mark.parametrize("name", ["etcd.yaml", "etcd.key", "deep/below/etcd.pem"])
def test_a_key_is_refused_wherever_it_lies_and_never_shown(copied: Path, name: str) -> None:
    path = copied / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\nkey: |\n  -----BEGIN PRIVATE KEY-----\n  Y2FuYXJ5\n  -----END PRIVATE KEY-----\n")

    message = refused(copied)

    assert f"{path}: holds a key or certificate; move it out of certs/" in message
    assert "Y2FuYXJ5" not in message


def test_an_empty_directory_is_a_mistake(tmp_path: Path) -> None:
    assert "no declaration here" in refused(tmp_path)
