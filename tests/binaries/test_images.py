"""Images of our own programs: what is in them, the same bytes twice, and who may pack them where."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hardway.binaries import fetch
from hardway.binaries.c import Toolchain
from hardway.binaries.cache import Shelf, digest
from hardway.binaries.images import RECIPES
from hardway.binaries.images.busybox import Busybox
from hardway.binaries.images.oci import Image, pack
from hardway.binaries.source import Source
from hardway.binaries.upstream import PROJECTS
from hardway.errors import Mistake
from hardway.inventory.values import Versions
from tests.binaries.release_site import Operator

HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
APPLETS = """
#include <stdio.h>
int main(void) { return puts("bin/busybox\\nbin/sh\\nusr/bin/wget") < 0; }
"""


@pytest.fixture
def busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A static busybox with two applets, first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "busybox.c").write_text(APPLETS)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Toolchain.of(HERE).compile(folder / "busybox.c", folder / "busybox", version="1")


@pytest.fixture
def stocked(operator: Operator) -> Operator:
    """An operator who has the programs, as if they were built."""

    for project in PROJECTS:
        for program in set(project.programs) & {recipe.program for recipe in RECIPES.values()}:
            version = Versions().of(project.name)
            operator.home.joinpath("made").write_text(f"the program {program}")
            shelf = Shelf(operator.cache / project.name / version / HERE)
            shelf.put(Source.of(project, version, operator.upstream, operator.cache).key, program, operator.home / "made", origin="a test")
    return operator


def blob(tar: tarfile.TarFile, descriptor: dict[str, Any]) -> bytes:
    """A blob that is what its descriptor says."""
    content = member(tar, f"blobs/{descriptor['digest'].replace(':', '/')}")
    assert (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}") == (descriptor["size"], descriptor["digest"])
    return content


def member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file
    return file.read()


def unpacked(archive: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any], tarfile.TarFile]:
    """The one manifest's descriptor, the configuration, and the layer."""
    with tarfile.open(archive) as tar:
        assert json.loads(member(tar, "oci-layout")) == {"imageLayoutVersion": "1.0.0"}
        (described,) = json.loads(member(tar, "index.json"))["manifests"]
        manifest = json.loads(blob(tar, described))
        config = json.loads(blob(tar, manifest["config"]))
        (layer,) = manifest["layers"]
        content = blob(tar, layer)
        assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    (folder / "layer.tar").write_bytes(content)
    return described, config, tarfile.open(folder / "layer.tar")


@pytest.mark.usefixtures("busybox")
def test_an_archive_is_a_layout_whose_every_digest_is_right(stocked: Operator, tmp_path: Path) -> None:
    archive = stocked.bring("agnhost.oci", arch=HERE)["agnhost.oci"]

    described, config, layer = unpacked(archive.path, tmp_path)
    with layer:
        found = {info.name: info for info in layer.getmembers()}
        assert member(layer, "agnhost") == b"the program agnhost"
        assert found["bin/sh"].linkname == found["usr/bin/wget"].linkname == "/bin/busybox"
        assert found["bin/busybox"].isreg()
        assert (found["tmp"].mode, found["uploads"].mode, found["agnhost"].mode) == (0o1777, 0o755, 0o755)
        assert member(layer, "etc/passwd").startswith(b"root:x:0:0:")
        assert {(info.uid, info.gid, info.mtime) for info in found.values()} == {(0, 0, 0)}
        # A folder before what is in it.
        assert [*found] == sorted(found)
    assert described["annotations"]["io.containerd.image.name"] == "hardway.local/agnhost:2.66.1"
    assert (config["architecture"], config["os"]) == (HERE, "linux")
    assert (config["config"]["Entrypoint"], config["config"]["Cmd"]) == (["/agnhost"], ["pause"])


@pytest.mark.parametrize(
    ("name", "user"), [("coredns", "65532:65532"), ("metrics-server", "65534"), ("pause", "65535:65535")], ids=lambda it: it
)
def test_other_images_hold_one_program_that_does_not_run_as_root(name: str, user: str, stocked: Operator, tmp_path: Path) -> None:
    archive = stocked.bring(f"{name}.oci", arch=HERE)[f"{name}.oci"]

    _, config, layer = unpacked(archive.path, tmp_path)
    with layer:
        assert {info.name for info in layer.getmembers() if info.isreg()} == {name, "etc/passwd", "etc/group"}
    assert (config["config"]["Entrypoint"], config["config"]["User"]) == ([f"/{name}"], user)


@pytest.mark.usefixtures("busybox")
def test_an_image_has_the_same_bytes_whenever_and_wherever_it_is_packed(stocked: Operator, tmp_path: Path) -> None:
    first = stocked.bring("agnhost.oci", arch=HERE)["agnhost.oci"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (stocked.cache / "images").rename(elsewhere / "images")
    for path in stocked.cache.rglob("agnhost"):
        os.utime(path, (1, 1))

    second = stocked.bring("agnhost.oci", arch=HERE)["agnhost.oci"]

    assert (second.source, second.sha256) == ("packed of agnhost 1.37.2", first.sha256)
    assert digest(second.path) == second.sha256


def test_what_was_packed_stays_when_the_machines_busybox_goes(stocked: Operator, busybox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = stocked.bring("agnhost.oci", arch=HERE)["agnhost.oci"]
    monkeypatch.setenv("PATH", "")
    busybox.unlink()

    again = stocked.bring("agnhost.oci", arch=HERE)

    assert {name: (one.source, one.sha256) for name, one in again.items()} == {"agnhost.oci": ("local cache", packed.sha256)}


def test_another_version_or_program_is_another_archive(stocked: Operator) -> None:
    other = stocked.inventory(versions=replace(Versions(), pause="3.11"))

    one = stocked.bring("pause.oci", arch=HERE)["pause.oci"]
    two = stocked.bring("pause.oci", arch=HERE, inventory=other)["pause.oci"]

    assert (one.version, two.version) == ("3.10.2", "3.11")
    assert one.path != two.path
    assert one.sha256 != two.sha256


@pytest.mark.usefixtures("stocked")
def test_an_image_is_missing_where_nothing_may_be_brought(stocked: Operator) -> None:

    with pytest.raises(Mistake, match=r"^pause\.oci: is not in the local cache; run \./inv binaries$"):
        fetch(["pause.oci"], HERE, stocked.inventory(), stocked.cache, stocked.told.append, folder=stocked.upstream, bring=False)


@pytest.mark.usefixtures("no_go")
def test_a_machine_without_busybox_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(
        Mistake, match=r"^it: needs busybox for its shell, and there is none; `apt-get install busybox-static`, or its like$"
    ):
        Busybox.here(HERE, tmp_path, what="it")


def test_a_busybox_that_needs_libraries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "busybox").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Mistake, match=r"busybox needs libraries, and an image has none; `apt-get install busybox-static`"):
        Busybox.here(HERE, tmp_path, what="it")


def test_where_apt_is_it_brings_one_without_installing_it(tmp_path: Path, busybox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins: an apt-get that leaves a package, and a dpkg-deb that unpacks it."""
    programs, scratch = tmp_path / "programs", tmp_path / "scratch"
    scratch.mkdir()
    programs.mkdir()
    for name, text in {
        "apt-get": '#!/bin/sh\n/bin/echo >"$2_1_all.deb"\n',
        "dpkg-deb": f"#!/bin/sh\n/bin/mkdir -p $3/bin; /bin/cp {busybox} $3/bin/busybox\n",
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    found = Busybox.here(HERE, scratch, what="it")

    assert found.path == scratch / "busybox-static/bin/busybox"
    assert "/bin/sh" in found.applets


@pytest.mark.usefixtures("busybox")
def test_a_busybox_of_another_architecture_is_refused(tmp_path: Path) -> None:
    foreign = "arm64" if HERE == "amd64" else "amd64"

    with pytest.raises(Mistake, match=rf"busybox is not for {foreign} \(ELF machine \d+\); make it on a machine of {foreign}"):
        Busybox.here(foreign, tmp_path, what="it")


def test_a_busybox_without_a_shell_is_refused(busybox: Path, tmp_path: Path) -> None:
    source = busybox.with_suffix(".c")
    source.write_text("int main(void) { return 1; }\n")
    Toolchain.of(HERE).compile(source, busybox, version="1")

    with pytest.raises(Mistake, match=r"has no list of its applets with bin/sh in it; `apt-get install busybox-static`"):
        Busybox.here(HERE, tmp_path, what="it")


def test_programs_may_stand_anywhere_in_an_image(tmp_path: Path) -> None:
    (tmp_path / "etcd").write_text("etcd")
    image = Image(
        reference="registry.example/etcd:1",
        arch=HERE,
        programs={"/usr/local/bin/etcd": tmp_path / "etcd"},
        links={"/usr/local/bin/etcd-again": "etcd"},
        entrypoint=("etcd",),
    )

    _, _, layer = unpacked(pack(image, tmp_path / "etcd.oci"), tmp_path)

    with layer:
        assert {"usr", "usr/local", "usr/local/bin", "usr/local/bin/etcd", "usr/local/bin/etcd-again"} <= set(layer.getnames())
