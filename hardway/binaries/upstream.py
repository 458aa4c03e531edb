"""The upstream projects: what programs they have, where releases are published, how they are built.

A project more is one entry in PROJECTS, one folder in `upstream/` and one field in the inventory's versions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from hardway.errors import Mistake
from hardway.inventory import Inventory

UPSTREAM = Path(__file__).resolve().parents[2] / "upstream"
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Where a project publishes its programs, by host and path; a mirror serves the same paths below its own URL."""

    file: str  # with {version}, {arch} and {program}
    digests: str | None  # beside it, {file} being the file's own name: one SHA-256, or the lines of sha256sum; None: nobody publishes any
    member: str | None = None  # where the program stands, if the file is a .tar.gz


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One project whose programs a cluster runs."""

    name: str  # its folder in upstream/ and its field in the inventory's versions
    programs: Mapping[str, str]  # program -> Go package, or a C file of the first module
    modules: tuple[str, ...]  # Go modules, all of the project's version; the first one's commit and date are stamped
    release: Release
    stamps: Mapping[str, str]  # variable -> value, set by the linker
    disk: int  # bytes that a build with an empty Go cache writes
    unreleased: frozenset[str] = frozenset()  # programs that are published in no release file: always built
    tags: tuple[str, ...] = ()
    cgo: tuple[str, ...] = ()  # C libraries, by their pkg-config names, that are linked into it statically

    def version(self, inventory: Inventory) -> str:
        """The version that an inventory asks for."""
        return str(getattr(inventory.versions, self.name))

    def is_c(self, program: str) -> bool:
        """Whether a program is a C file."""
        return self.programs[program].endswith(".c")

    @property
    def packages(self) -> list[str]:
        """The Go packages of its programs."""
        return sorted(package for program, package in self.programs.items() if not self.is_c(program))

    def release_file(self, program: str, version: str, arch: str) -> str:
        """Host and path of the file that holds a program; its name in digests and pins."""
        return self.release.file.format(program=program, version=version, arch=arch)

    def release_files(self, version: str, arch: str) -> list[str]:
        """All of its release files, each once."""
        released = (program for program in self.programs if program not in self.unreleased)
        return list(dict.fromkeys(self.release_file(program, version, arch) for program in released))


def _kubernetes_stamps() -> dict[str, str]:
    values = {
        "gitVersion": "v{version}",
        "gitMajor": "{major}",
        "gitMinor": "{minor}",
        "gitTreeState": "clean",
        "gitCommit": "{commit}",
        "buildDate": "{date}",
    }
    # The daemons report the first package's, kubectl and every User-Agent the second's.
    # https://github.com/kubernetes/kubernetes/blob/master/hack/lib/version.sh
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in values.items()}


def _on_github(repository: str, file: str) -> str:
    return f"github.com/{repository}/releases/download/v{{version}}/{file}"


PROJECTS = (
    Project(
        name="kubernetes",
        programs={
            program: f"k8s.io/kubernetes/cmd/{program}"
            for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "kubeadm")
        }
        | {"agnhost": "k8s.io/kubernetes/test/images/agnhost", "pause": "build/pause/linux/pause.c"},
        modules=("k8s.io/kubernetes",),
        release=Release(
            file="dl.k8s.io/v{version}/bin/linux/{arch}/{program}",
            digests="dl.k8s.io/v{version}/bin/linux/{arch}/{file}.sha256",
        ),
        unreleased=frozenset({"agnhost", "pause"}),  # published as images only
        stamps=_kubernetes_stamps(),
        disk=6 * GIB,
    ),
    Project(
        name="etcd",
        programs={
            "etcd": "go.etcd.io/etcd/server/v3",
            "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
            "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
        },
        modules=("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3"),
        release=Release(
            file=_on_github("etcd-io/etcd", "etcd-v{version}-linux-{arch}.tar.gz"),
            digests=_on_github("etcd-io/etcd", "SHA256SUMS"),
            member="etcd-v{version}-linux-{arch}/{program}",
        ),
        stamps={"go.etcd.io/etcd/api/v3/version.GitSHA": "{commit:.7}"},
        disk=GIB,
    ),
    Project(
        name="containerd",
        programs={
            program: f"github.com/containerd/containerd/v2/cmd/{program}" for program in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
        modules=("github.com/containerd/containerd/v2",),
        release=Release(
            # The static ones: they run with any libc.
            file=_on_github("containerd/containerd", "containerd-static-{version}-linux-{arch}.tar.gz"),
            digests=_on_github("containerd/containerd", "{file}.sha256sum"),
            member="bin/{program}",
        ),
        stamps={"github.com/containerd/containerd/v2/version.Version": "v{version}"},
        disk=2 * GIB,
    ),
    Project(
        name="runc",
        programs={"runc": "github.com/opencontainers/runc"},
        modules=("github.com/opencontainers/runc",),
        release=Release(
            file=_on_github("opencontainers/runc", "runc.{arch}"),
            digests=_on_github("opencontainers/runc", "runc.sha256sum"),
        ),
        stamps={},  # it embeds a file with its version
        tags=("seccomp", "netgo", "osusergo"),  # without seccomp every Pod fails: "config provided but seccomp not supported"
        cgo=("libseccomp",),
        disk=GIB,
    ),
    Project(
        name="cni_plugins",
        programs={
            name: f"github.com/containernetworking/plugins/plugins/{kind}/{name}"
            for name, kind in {"bridge": "main", "loopback": "main", "host-local": "ipam", "portmap": "meta"}.items()
        },
        modules=("github.com/containernetworking/plugins",),
        release=Release(
            file=_on_github("containernetworking/plugins", "cni-plugins-linux-{arch}-v{version}.tgz"),
            digests=_on_github("containernetworking/plugins", "{file}.sha256"),
            member="./{program}",
        ),
        stamps={"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": "v{version}"},
        disk=GIB,
    ),
    Project(
        name="cri_tools",
        programs={"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
        modules=("sigs.k8s.io/cri-tools",),
        release=Release(
            file=_on_github("kubernetes-sigs/cri-tools", "crictl-v{version}-linux-{arch}.tar.gz"),
            digests=_on_github("kubernetes-sigs/cri-tools", "{file}.sha256"),
            member="{program}",
        ),
        stamps={"sigs.k8s.io/cri-tools/pkg/version.Version": "{version}"},
        disk=2 * GIB,
    ),
    Project(
        name="coredns",
        programs={"coredns": "github.com/coredns/coredns"},
        modules=("github.com/coredns/coredns",),
        release=Release(
            file=_on_github("coredns/coredns", "coredns_{version}_linux_{arch}.tgz"),
            digests=_on_github("coredns/coredns", "{file}.sha256"),
            member="{program}",
        ),
        stamps={},  # its version is a constant
        disk=3 * GIB,
    ),
    Project(
        name="metrics_server",
        programs={"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
        modules=("sigs.k8s.io/metrics-server",),
        release=Release(file=_on_github("kubernetes-sigs/metrics-server", "metrics-server-linux-{arch}"), digests=None),
        stamps={"k8s.io/client-go/pkg/version.gitVersion": "v{version}", "k8s.io/client-go/pkg/version.buildDate": "{date}"},
        disk=2 * GIB,
    ),
)


def by_project(programs: Collection[str]) -> list[tuple[Project, list[str]]]:
    """The programs grouped by their projects, in the order of PROJECTS; a Mistake for one that nobody declares."""
    known = {program: project for project in PROJECTS for program in project.programs}
    if unknown := sorted(set(programs) - set(known)):
        raise Mistake.at(", ".join(unknown), "no upstream project declares it", f"known are {', '.join(sorted(known))}")
    return [(project, wanted) for project in PROJECTS if (wanted := [name for name in project.programs if name in programs])]
