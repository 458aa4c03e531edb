"""The projects' releases as they are laid out: what is in a file, what is digested, what is published at all."""

from __future__ import annotations

import hashlib

import pytest

from hardway.binaries.upstream import PROJECTS, UPSTREAM, Project
from hardway.errors import Mistake
from tests.binaries.release_site import Operator, ReleaseSite

BY_NAME = {project.name: project for project in PROJECTS}
DIGESTED = [project for project in PROJECTS if project.release.digests]


@pytest.mark.parametrize("project", DIGESTED, ids=lambda project: project.name)
def test_every_released_program_comes_out_of_its_projects_release(project: Project, operator: Operator, release_site: ReleaseSite) -> None:
    for arch in ("amd64", "arm64"):
        release_site.publish_release(project, arch)
    released = [program for program in project.programs if program not in project.unreleased]

    brought = operator.bring(*released, inventory=operator.inventory("download"), arch="arm64")

    assert {name: binary.path.read_text() for name, binary in brought.items()} == {name: f"{name} arm64" for name in released}


def test_a_checksum_file_may_be_a_signed_message(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.publish_release(BY_NAME["runc"], "amd64")
    sums = "/github.com/opencontainers/runc/releases/download/v1.5.2/runc.sha256sum"
    head = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    tail = b"-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCgAdFiEE\n-----END PGP SIGNATURE-----\n"
    release_site.files[sums] = head + release_site.files[sums] + tail

    assert operator.bring("runc")["runc"].path.read_text() == "runc amd64"


def test_what_is_in_no_release_is_refused_as_a_download(operator: Operator, release_site: ReleaseSite) -> None:
    with pytest.raises(Mistake, match=r"^agnhost: is in no release file; set binaries\.source: auto, so that it is built$"):
        operator.bring("agnhost", inventory=operator.inventory("download"))

    assert release_site.requests == []


@pytest.mark.usefixtures("no_go")
def test_a_file_without_a_published_digest_is_built_unless_one_is_committed(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.publish_release(BY_NAME["metrics_server"], "amd64")
    file = "github.com/kubernetes-sigs/metrics-server/releases/download/v0.9.0/metrics-server-linux-amd64"

    with pytest.raises(Mistake, match=r"metrics_server publishes no digest, and none is committed; set binaries\.source: auto"):
        operator.bring("metrics-server", inventory=operator.inventory("download"))
    with pytest.raises(Mistake, match="go: not found"):
        operator.bring("metrics-server")
    assert release_site.requests == []

    digest = hashlib.sha256(release_site.files[f"/{file}"]).hexdigest()
    (operator.upstream / "metrics_server" / "SHA256SUMS").write_text(f"{digest}  {file}\n")
    assert operator.bring("metrics-server")["metrics-server"].path.read_text() == "metrics-server amd64"


def test_every_project_has_its_module_and_no_folder_is_left_over() -> None:
    assert {folder.name for folder in UPSTREAM.iterdir() if folder.is_dir()} == set(BY_NAME)
