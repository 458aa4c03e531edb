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
    digests: str  # beside it: one SHA-256, or the lines of sha256sum
    member: str | None = None  # where the program stands, if the file is a .tar.gz


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One project whose programs a cluster runs."""

    name: str  # its folder in upstream/ and its field in the inventory's versions
    programs: Mapping[str, str]  # program -> Go package
    modules: tuple[str, ...]  # Go modules, all of the project's version; the first one's commit and date are stamped
    release: Release
    stamps: Mapping[str, str]  # variable -> value, set by the linker
    disk: int  # bytes that a build with an empty Go cache writes

    def version(self, inventory: Inventory) -> str:
        """The version that an inventory asks for."""
        return str(getattr(inventory.versions, self.name))

    def release_file(self, program: str, version: str, arch: str) -> str:
        """Host and path of the file that holds a program; its name in digests and pins."""
        return self.release.file.format(program=program, version=version, arch=arch)


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


PROJECTS = (
    Project(
        name="kubernetes",
        programs={
            program: f"k8s.io/kubernetes/cmd/{program}"
            for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
        },
        modules=("k8s.io/kubernetes",),
        release=Release(
            file="dl.k8s.io/v{version}/bin/linux/{arch}/{program}",
            digests="dl.k8s.io/v{version}/bin/linux/{arch}/{program}.sha256",
        ),
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
            file="github.com/etcd-io/etcd/releases/download/v{version}/etcd-v{version}-linux-{arch}.tar.gz",
            digests="github.com/etcd-io/etcd/releases/download/v{version}/SHA256SUMS",
            member="etcd-v{version}-linux-{arch}/{program}",
        ),
        stamps={"go.etcd.io/etcd/api/v3/version.GitSHA": "{commit:.7}"},
        disk=GIB,
    ),
)


def by_project(programs: Collection[str]) -> list[tuple[Project, list[str]]]:
    """The programs grouped by their projects, in the order of PROJECTS; a Mistake for one that nobody declares."""
    known = {program: project for project in PROJECTS for program in project.programs}
    if unknown := sorted(set(programs) - set(known)):
        raise Mistake.at(", ".join(unknown), "no upstream project declares it", f"known are {', '.join(sorted(known))}")
    return [(project, wanted) for project in PROJECTS if (wanted := [name for name in project.programs if name in programs])]
