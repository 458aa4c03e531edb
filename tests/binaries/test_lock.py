"""Digests are committed by `--lock` and by nothing else."""

from __future__ import annotations

import hashlib

import pytest

from hardway.binaries.lock import Change, lock
from hardway.binaries.upstream import PROJECTS
from hardway.errors import Mistake
from tests.binaries.release_site import ETCD, Operator, ReleaseSite


@pytest.fixture(autouse=True)
def release(release_site: ReleaseSite) -> None:
    for project in PROJECTS:
        for arch in ("amd64", "arm64"):
            release_site.publish_release(project, arch)


def locked(operator: Operator) -> tuple[Change, ...]:
    return lock(operator.inventory(), operator.told.append, site=operator.site, folder=operator.upstream)


@pytest.mark.usefixtures("release_site")
def test_lock_writes_the_published_digests_and_says_which(operator: Operator) -> None:
    changes = {change.file: change for change in locked(operator)}

    digested = [project for project in PROJECTS if project.release.digests]
    assert len(changes) == 2 * sum(len(project.release_files("1", "amd64")) for project in digested)
    assert not any("agnhost" in file or "metrics-server" in file for file in changes)  # published without a file, without a digest
    kubectl = "dl.k8s.io/v1.37.2/bin/linux/arm64/kubectl"
    sha256 = hashlib.sha256(b"kubectl arm64").hexdigest()
    assert changes[kubectl] == Change(file=kubectl, old=None, new=sha256)
    assert f"{sha256}  {kubectl}\n" in (operator.upstream / "kubernetes" / "SHA256SUMS").read_text()
    assert locked(operator) == ()

    operator.bring("kubectl", "etcd", inventory=operator.inventory(pins="required"))
    assert not operator.pins.exists()


def test_lock_shows_a_digest_that_became_another_one_and_keeps_other_versions(operator: Operator, release_site: ReleaseSite) -> None:
    locked(operator)
    sums = operator.upstream / "kubernetes" / "SHA256SUMS"
    older = f"{'1' * 64}  dl.k8s.io/v1.36.3/bin/linux/amd64/kubectl\n"
    sums.write_text(sums.read_text() + older)
    release_site.publish("/dl.k8s.io/v1.37.2/bin/linux/amd64/kubectl", b"republished")

    (change,) = locked(operator)

    assert (change.old, change.new) == (hashlib.sha256(b"kubectl amd64").hexdigest(), hashlib.sha256(b"republished").hexdigest())
    assert older in sums.read_text()


def test_lock_changes_nothing_if_one_digest_is_missing(operator: Operator, release_site: ReleaseSite) -> None:
    del release_site.files[f"{ETCD}/SHA256SUMS"]

    with pytest.raises(Mistake, match=r"SHA256SUMS: is not there"):
        locked(operator)

    assert not [*operator.upstream.rglob("SHA256SUMS")]


def test_lock_without_a_reachable_site_changes_nothing(operator: Operator) -> None:
    operator.mirror = "http://127.0.0.1:9"

    with pytest.raises(Mistake, match=r"cannot be reached; nothing is changed"):
        locked(operator)
