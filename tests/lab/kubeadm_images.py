"""What a real `kubeadm init` pulls, packed of our programs under the published names: for a cluster that this kit did not build.

Never for a cluster of the kit's own: there an image has the name of who has made it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hardway.binaries.images import RECIPES, SUFFIX
from hardway.binaries.images.oci import Image, pack

PROGRAMS = ("kubeadm", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd", "coredns", "pause")


def listed(kubeadm: Path, version: str) -> dict[str, str]:
    """The images that kubeadm asks for: the last part of its name -> reference."""
    argv = [str(kubeadm), "config", "images", "list", "--kubernetes-version", f"v{version}"]
    references = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return {reference.rpartition("/")[2].partition(":")[0]: reference for reference in references}


def archives(programs: Mapping[str, Path], version: str, arch: str, system: Path, folder: Path) -> dict[str, Path]:
    """One archive for each of them; kube-proxy's has `nft` and its libraries from a root file system, as the published one has."""
    made = {}
    for name, reference in listed(programs["kubeadm"], version).items():
        own = f"/{name}" if name in RECIPES else f"/usr/local/bin/{name}"
        image = Image(
            reference=reference,
            arch=arch,
            programs={own: programs[name]} | (with_libraries(system, "/usr/sbin/nft") if name == "kube-proxy" else {}),
            entrypoint=(own,),
            user=RECIPES[name].user if name in RECIPES else "",
        )
        made[name] = pack(image, folder / f"{name}{SUFFIX}")
    return made


def with_libraries(system: Path, program: str) -> dict[str, Path]:
    """A program of a root file system, its libraries and its dynamic linker, by their paths there."""
    said = subprocess.run(["chroot", system, "ldd", program], check=True, capture_output=True, text=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", said)
    return {path: system / path.lstrip("/") for path in (program, *libraries)}
