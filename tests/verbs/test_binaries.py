"""The verb `binaries`: what it prints of programs that are cached, and of digests that change."""

from pathlib import Path

import pytest

from hardway.binaries.cache import Shelf
from hardway.binaries.lock import Change
from hardway.binaries.source import Source
from hardway.binaries.upstream import PROJECTS, UPSTREAM
from hardway.inventory.values import Versions
from hardway.verbs.binaries import binaries
from hardway.verbs.program.cli import Cli

SHIPPED = Path(__file__).parents[2] / "inventory.yaml"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which every program of arm64 and amd64 stands, as if built here."""
    monkeypatch.setattr("hardway.binaries.CACHE", tmp_path)
    for project in PROJECTS:
        version = getattr(Versions(), project.name)
        key = Source.of(project, version, UPSTREAM, tmp_path).key
        for arch in ("amd64", "arm64"):
            for program in project.programs:
                made = tmp_path / "made"
                made.write_text(f"{program} {arch}")
                Shelf(tmp_path / project.name / version / arch).put(key, program, made, origin="Go build of it")
    return tmp_path


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        Cli({"It": {"binaries": binaries}}, version="1").run(["inv", "binaries", *argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.usefixtures("cache")
def test_the_roles_programs_are_listed_and_kubectl_for_the_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(f"{SHIPPED.read_text()}\nimages: pull\n")

    assert run("--inventory", str(inventory), "--arch", "arm64") == 0

    head, *rows, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["program", "version", "arch", "from", "sha-256", "size"]
    control_plane = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "etcd"}
    worker = {"kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "runc", "bridge", "host-local"}
    assert {row.split()[0] for row in rows} >= control_plane | worker
    assert all("local cache (Go build of it)" in row for row in rows)
    assert {row.split()[2] for row in rows if not row.startswith("kubectl")} == {"arm64"}
    assert total.startswith(f"{len(rows)} programs, ")


def test_an_architecture_that_no_host_has_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--arch", "mips") == 1

    assert "--arch: mips is no architecture of a host; known are amd64, arm64" in capsys.readouterr().err


def test_lock_shows_old_and_new_digests(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    changes = (Change(file="dl.k8s.io/a", old=None, new="1" * 64), Change(file="dl.k8s.io/b", old="2" * 64, new="3" * 64))
    monkeypatch.setattr("hardway.binaries.lock.lock", lambda *_: changes)

    assert run("--lock") == 0

    shown = [f"+ {'1' * 64}  dl.k8s.io/a", f"- {'2' * 64}  dl.k8s.io/b", f"+ {'3' * 64}  dl.k8s.io/b"]
    assert capsys.readouterr().out.splitlines() == [*shown, "2 digests changed in upstream/; look at `git diff upstream`"]
