"""Builds from Go modules: how `go` is run, tested with a small one in its place, and real ones (marked `build`)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

from hardway.binaries.build import build
from hardway.binaries.source import Source, go_mod
from hardway.binaries.upstream import PROJECTS, UPSTREAM
from hardway.errors import Mistake
from hardway.inventory.values import Versions
from tests.binaries.release_site import Operator

KUBERNETES, ETCD = PROJECTS[:2]
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
GO = """#!/bin/sh
case "$1" in
    version) echo "go version ${FAKE_GO:-go1.26.8} linux/amd64" ;;
    env) echo "$FAKE_HOME" ;;
    mod)
        [ "$2" = download ] && printf '{"Info": "%s", "GoMod": "%s"}' "$FAKE_HOME/info" "$FAKE_HOME/own.mod"
        [ "$2" = edit ] && cat "$FAKE_HOME/own.json"
        [ "$2" = tidy ] && touch go.sum
        true ;;
    build)
        printf '%s\\n' "$@" >"$FAKE_HOME/argv"
        env >"$FAKE_HOME/env"
        printf 'k8s.io/api/core/v1\\n# k8s.io/broken\\nbroken.go:1:1: no such thing\\n' >&2
        [ -n "$FAKE_FAILS" ] && exit 1
        [ -n "$FAKE_HANGS" ] && echo $$ >"$FAKE_HOME/pid" && exec sleep 60
        while [ "$1" != -o ]; do shift; done
        out=$2; shift 2
        for package; do name=${package%/v3}; echo "$package" >"$out${name##*/}"; done ;;
esac
"""


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that records how it is run; gives the folder of its records."""
    home = tmp_path / "fake"
    home.mkdir()
    (home / "go").write_text(GO)
    (home / "go").chmod(0o755)
    (home / "info").write_text('{"Version": "v1", "Time": "2026-10-27T12:01:04Z", "Origin": {"Hash": "0123456789abcdef"}}')
    (home / "own.json").write_text('{"Go": "1.26.0", "Require": [{"Path": "k8s.io/api", "Version": "v0.0.0"}]}')
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_HOME", str(home))
    return home


@pytest.fixture
def builder(operator: Operator) -> Operator:
    """An operator whose network has no release site."""
    operator.mirror = "http://127.0.0.1:9"
    return operator


def stamped(fake_go: Path) -> set[str]:
    """What the linker was told."""
    argv = (fake_go / "argv").read_text().splitlines()
    return set(argv[argv.index("-ldflags") + 1].split(" -X "))


def test_each_program_has_its_own_name_whatever_its_package_is_called(builder: Operator, fake_go: Path) -> None:
    brought = builder.bring("etcd", "etcdutl")

    assert {name: binary.path.read_text() for name, binary in brought.items()} == {
        "etcd": "go.etcd.io/etcd/server/v3\n",
        "etcdutl": "go.etcd.io/etcd/etcdutl/v3\n",
    }
    assert brought["etcd"].source == "Go build of go.etcd.io/etcd/server/v3@v3.7.3, go1.26.8"
    assert stamped(fake_go) == {"-s -w", "go.etcd.io/etcd/api/v3/version.GitSHA=0123456"}
    assert builder.bring("etcd")["etcd"].source == "local cache"


@pytest.mark.usefixtures("fake_go")
def test_what_is_in_no_release_is_built_beside_what_is_downloaded(operator: Operator, kubectl: bytes) -> None:
    brought = operator.bring("kubectl", "agnhost")

    assert brought["kubectl"].path.read_bytes() == kubectl
    assert brought["agnhost"].source == "Go build of k8s.io/kubernetes@v1.37.2, go1.26.8"
    assert {one.source for one in operator.bring("kubectl", "agnhost").values()} == {"local cache"}


def test_tags_and_the_c_compiler_reach_the_build_that_needs_them(builder: Operator, fake_go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gcc", "pkg-config"):
        (fake_go / name).write_text("#!/bin/sh\n")
        (fake_go / name).chmod(0o755)
    monkeypatch.setenv("CGO_CFLAGS", "-march=mine")
    monkeypatch.setenv("CC", "mine")

    builder.bring("runc", arch=HERE)

    argv = (fake_go / "argv").read_text().splitlines()
    assert argv[argv.index("-tags") + 1] == "seccomp,netgo,osusergo"
    assert argv[argv.index("-ldflags") + 1] == "-s -w -extldflags -static"
    env = dict(line.split("=", 1) for line in (fake_go / "env").read_text().splitlines() if line.startswith(("CGO", "CC=", "PKG")))
    assert env == {"CGO_ENABLED": "1", "CC": "gcc", "PKG_CONFIG": "pkg-config"}


def test_kubernetes_is_stamped_in_both_places_from_what_the_proxy_says(builder: Operator, fake_go: Path) -> None:
    builder.bring("kubectl")

    values = {
        "gitVersion=v1.37.2",
        "gitMajor=1",
        "gitMinor=37",
        "gitTreeState=clean",
        "gitCommit=0123456789abcdef",
        "buildDate=2026-10-27T12:01:04Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    assert stamped(fake_go) == {"-s -w", *(f"{package}.{value}" for package in packages for value in values)}


def test_the_operators_go_settings_do_not_reach_a_build(builder: Operator, fake_go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-tags=mine")
    monkeypatch.setenv("GOEXPERIMENT", "mine")
    monkeypatch.setenv("CGO_ENABLED", "1")
    monkeypatch.setenv("GOAMD64", "v3")

    builder.bring("etcdutl", arch="arm64")

    env = dict(line.split("=", 1) for line in (fake_go / "env").read_text().splitlines() if line.startswith(("GO", "CGO")))
    assert env["GOFLAGS"] == "-mod=readonly -trimpath -buildvcs=false"
    assert (env["GOOS"], env["GOARCH"], env["CGO_ENABLED"], env["GOAMD64"]) == ("linux", "arm64", "0", "v1")
    assert "GOEXPERIMENT" not in env


def test_an_old_go_is_refused_before_anything_is_built(builder: Operator, fake_go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO", "go1.19.8")

    with pytest.raises(Mistake, match=r"go1\.19\.8 linux/amd64 is too old; .* needs Go 1\.26 or later; unpack https://go\.dev/dl/"):
        builder.bring("etcd")

    assert not (fake_go / "argv").exists()


@pytest.mark.usefixtures("fake_go")
def test_a_failed_build_says_why_and_leaves_nothing(builder: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILS", "1")

    with pytest.raises(Mistake, match=r"go build of etcd 3\.7\.3: # k8s\.io/broken broken\.go:1:1: no such thing; run the same again"):
        builder.bring("etcd")

    assert builder.left() == []


def test_a_long_build_shows_life_and_an_interrupt_ends_it(builder: Operator, fake_go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_HANGS", "1")
    monkeypatch.setattr("hardway.binaries.build.ALIVE", 0.05)
    pid = fake_go / "pid"

    class Impatient(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            if "1 packages compiled" in line and pid.exists() and pid.read_text().endswith("\n"):
                raise KeyboardInterrupt

    builder.told = Impatient()
    with pytest.raises(KeyboardInterrupt):
        builder.bring("etcd")

    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert builder.left() == []


@pytest.mark.usefixtures("fake_go")
def test_a_disk_without_room_is_refused_before_a_build(tmp_path: Path) -> None:
    huge = dataclasses.replace(ETCD, disk=1 << 60)
    source = Source.of(huge, "3.7.3", UPSTREAM, tmp_path)

    with pytest.raises(Mistake, match=r"GB are free, a build of etcd may write 1152921504\.6 GB; free some, or set GOCACHE"):
        build(source, ["etcd"], "amd64", tmp_path, lambda _: None)


@pytest.mark.usefixtures("fake_go")
def test_another_version_gets_a_module_of_its_own_in_the_cache(builder: Operator) -> None:
    other = builder.inventory(versions=Versions(kubernetes="1.36.3"))

    brought = builder.bring("kubectl", inventory=other)["kubectl"]

    module = (builder.cache / "kubernetes/1.36.3/module/go.mod").read_text()
    assert "require (\n\tk8s.io/kubernetes v1.36.3\n)" in module
    assert "replace (\n\tk8s.io/api => k8s.io/api v0.36.3\n)" in module
    assert brought.source == "Go build of k8s.io/kubernetes@v1.36.3, go1.26.8"
    assert any("no go.sum of it is committed" in line for line in builder.told)


@pytest.mark.usefixtures("fake_go")
def test_a_module_of_another_version_is_derived_again_when_the_project_has_more_programs(builder: Operator) -> None:
    other = builder.inventory(versions=Versions(kubernetes="1.36.3"))
    builder.bring("kubectl", inventory=other)
    module = builder.cache / "kubernetes/1.36.3/module"
    whole = (module / "go.mod").read_text()
    (module / "go.mod").write_text(whole.replace("\tk8s.io/kubernetes/test/images/agnhost\n", ""))

    builder.bring("agnhost", inventory=other)

    assert (module / "go.mod").read_text() == whole


@pytest.mark.usefixtures("fake_go")
def test_required_pins_refuse_to_build_what_has_no_committed_go_sum(builder: Operator) -> None:
    strict = builder.inventory("build", pins="required", versions=Versions(kubernetes="1.36.3"))

    with pytest.raises(Mistake, match=r"go\.sum is of another version, and the inventory says binaries\.pins: required"):
        builder.bring("kubectl", inventory=strict)

    builder.bring("kubectl", inventory=builder.inventory("build", pins="required"))


def test_only_modules_required_at_v0_0_0_are_replaced() -> None:
    own = {
        "Go": "1.26.0",
        "GoDebug": [{"Key": "default", "Value": "go1.26"}],
        "Require": [
            {"Path": "k8s.io/api", "Version": "v0.0.0"},
            {"Path": "k8s.io/utils", "Version": "v0.0.0-20260626114624-be93311217bd"},
            {"Path": "k8s.io/klog/v2", "Version": "v2.140.0"},
        ],
    }

    lines = go_mod(KUBERNETES, "1.37.2", own).splitlines()

    assert [line for line in lines if "=>" in line] == ["\tk8s.io/api => k8s.io/api v0.37.2"]
    assert "godebug default=go1.26" in lines
    assert "\tk8s.io/kubernetes/cmd/kube-apiserver" in lines


def test_what_is_built_has_another_name_when_its_modules_change(upstream: Path, tmp_path: Path) -> None:
    before = Source.of(ETCD, "3.7.3", upstream, tmp_path).key
    assert Source.of(ETCD, "3.7.3", upstream, tmp_path).key == before

    sums = upstream / "etcd" / "go.sum"
    sums.write_text(sums.read_text() + "example.invalid/more v1.0.0 h1:abc=\n")

    assert Source.of(ETCD, "3.7.3", upstream, tmp_path).key != before


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_the_committed_modules_are_those_of_the_default_versions(project: object, tmp_path: Path) -> None:
    assert isinstance(project, type(ETCD))
    assert Source.of(project, getattr(Versions(), project.name), UPSTREAM, tmp_path).committed


@pytest.mark.build
@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_the_committed_modules_are_what_the_kit_derives(project: object, tmp_path: Path) -> None:
    assert isinstance(project, type(ETCD))
    version = getattr(Versions(), project.name)
    derived = Source(project=project, version=version, upstream=UPSTREAM / project.name, folder=tmp_path / "module", committed=False)

    derived.derive(lambda _: None)

    for name in ("go.mod", "go.sum"):
        assert (tmp_path / "module" / name).read_text() == (UPSTREAM / project.name / name).read_text()


@pytest.mark.build
@pytest.mark.parametrize("program", [pytest.param("etcdutl", marks=pytest.mark.full), "runc"])  # of Go alone, and with C
def test_a_build_has_the_same_bytes_twice(program: str, builder: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = [builder.bring(program, arch=HERE, inventory=builder.inventory("build"))[program]]
    # Once more from nothing: no compiled package is shared, and the folder is another one.
    monkeypatch.setenv("GOCACHE", str(tmp_path / "second" / "go"))
    builder.home = tmp_path / "second"
    built.append(builder.bring(program, arch=HERE, inventory=builder.inventory("build"))[program])

    assert built[0].path != built[1].path
    assert hashlib.sha256(built[0].path.read_bytes()).hexdigest() == built[1].sha256 == built[0].sha256


@pytest.mark.build
def test_a_build_for_another_architecture_is_of_that_architecture(builder: Operator) -> None:
    brought = builder.bring("etcdutl", arch="arm64", inventory=builder.inventory("build"))["etcdutl"]

    machine = int.from_bytes(brought.path.read_bytes()[18:20], "little")  # e_machine of the ELF header
    assert machine == 183
    assert "arm64" in brought.path.parts


@pytest.mark.build
def test_built_programs_tell_their_version(builder: Operator) -> None:
    brought = builder.bring("kubectl", "kube-apiserver", "etcd", arch=HERE, inventory=builder.inventory("build"))

    def said(program: str, *argv: str) -> str:
        return subprocess.run([brought[program].path, *argv], check=True, capture_output=True, text=True).stdout

    client = json.loads(said("kubectl", "version", "--client", "-o", "json"))["clientVersion"]
    wanted = {"major": "1", "minor": "37", "gitVersion": "v1.37.2", "gitTreeState": "clean"}
    assert client.items() >= wanted.items()
    assert client["buildDate"].startswith("2026-10-")
    assert said("kube-apiserver", "--version") == "Kubernetes v1.37.2\n"
    assert "etcd Version: 3.7.3\n" in said("etcd", "--version")
    assert "Not provided" not in said("etcd", "--version")


@pytest.mark.build
@pytest.mark.parametrize(
    ("program", "argv", "said"),
    [
        ("containerd", ("--version",), "containerd github.com/containerd/containerd/v2 v2.4.2"),
        ("ctr", ("--version",), "v2.4.2"),
        ("crictl", ("--version",), "crictl version 1.37.0"),
        ("coredns", ("-version",), "CoreDNS-1.15.0"),
        ("metrics-server", ("--version",), "v0.9.0"),
        ("kubeadm", ("version", "-o", "short"), "v1.37.2"),
        ("bridge", (), "CNI bridge plugin v1.9.1"),
    ],
)
def test_a_workers_programs_tell_their_version(program: str, argv: tuple[str, ...], said: str, builder: Operator) -> None:
    brought = builder.bring(program, arch=HERE, inventory=builder.inventory("build"))[program]

    done = subprocess.run([brought.path, *argv], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert said in done.stdout + done.stderr
