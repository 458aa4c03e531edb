"""The root file system that every lab host starts from: Debian 12, made once by mmdebstrap and kept in a cache."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hardway.errors import Mistake

# Debian 12 and no later: where the kernel still has version 1 control groups, its systemd 252 is the last that boots.
SUITE = "bookworm"
PACKAGES = (
    "ca-certificates",
    "conntrack",
    "dbus",
    "haproxy",
    "iproute2",
    "iptables",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "systemd",
    "systemd-sysv",
)
MASKED = (
    "apt-daily-upgrade.timer",  # the hosts have no internet
    "apt-daily.timer",
    "haproxy.service",  # the balancer is kube-apiserver-lb.service
)
# What only the lab needs on its hosts; an ordinary machine has none of it.
FILES = {
    # A host that does not stop would take 90 s to reboot.
    "etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultTimeoutStopSec=10s\n",
    # Host keys come from the operator's side, one kind only.
    "etc/ssh/sshd_config.d/lab.conf": "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n",
    # nspawn mounts the version 1 controllers read-only; containerd makes its pods' groups there.
    "etc/systemd/system/containerd.service.d/lab.conf": (
        "[Service]\n"
        "ExecStartPre=+/bin/sh -c 'for c in /sys/fs/cgroup/*/; do "
        'if mountpoint --quiet "$$c"; then mount -o remount,bind,rw "$$c"; fi; done\'\n'
    ),
    # Without CAP_SYS_RESOURCE no process may be made less likely to be killed for want of memory, as each Pod's sandbox is.
    "etc/containerd/conf.d/lab.toml": ("version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n  restrict_oom_score_adj = true\n"),
    # The disk is the machine's, and may be nearly full for reasons outside the lab.
    "etc/kubernetes/kubelet/conf.d/lab.conf": (
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
        "evictionHard: {memory.available: 100Mi, nodefs.available: 500Mi, imagefs.available: 500Mi, nodefs.inodesFree: 1%}\n"
    ),
}
HOOK = """\
set -eu
for unit in {masked}; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/var/log/*.log "$1"/var/log/apt/*
: >"$1/etc/machine-id"
: >"$1/etc/resolv.conf"; chmod 0644 "$1/etc/resolv.conf"
rm -f "$1/var/lib/dbus/machine-id"
mkdir -p "$1/var/lib/containerd"
"""
OPTIONS = (
    "--variant=minbase",
    f"--include={','.join(PACKAGES)}",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)


def digest() -> str:
    """Of the recipe: another recipe is another image."""
    return hashlib.sha256(json.dumps([SUITE, OPTIONS, FILES, HOOK, MASKED]).encode()).hexdigest()[:16]


def sources(files: Mapping[str, str]) -> dict[str, str]:
    """Of apt's source files (path -> text), what names the Debian archive that the image is made from."""
    suites = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    found = {}
    for path, text in files.items():
        if path.endswith(".sources"):
            stanzas = []
            for stanza in text.split("\n\n"):
                lines = [line for line in stanza.splitlines() if not line.startswith("#")]
                fields = {key.strip().lower(): value.split() for key, _, value in (line.partition(":") for line in lines)}
                if "deb" in fields.get("types", []) and suites & set(fields.get("suites", [])) and "main" in fields.get("components", []):
                    stanzas.append("\n".join(lines))
            kept = "\n\n".join(stanzas)
        else:
            lines = [line for line in text.splitlines() if line.startswith("deb ")]
            kept = "\n".join(line for line in lines if suites & set(line.split()) and "main" in line.split())
        if kept:
            found[path] = kept + "\n"
    return found


def ensure(cache: Path, tell: Callable[[str], None]) -> Path:
    """The image's directory, made if the cache has none of this recipe."""
    image = cache / digest()
    if image.is_dir():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two labs at once want one image
        if not image.is_dir():
            tell("lab: making the hosts' image, once (half a minute)")
            part = cache / f"{digest()}.part"
            if part.exists():
                shutil.rmtree(part)
            _build(part, tell)
            part.rename(image)
    return image


def _build(target: Path, tell: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="hardway-") as name:
        work = Path(name)
        mirrors = []
        for number, (path, text) in enumerate(sources(_apt_files()).items()):
            mirror = work / f"{number}{Path(path).suffix}"
            mirror.write_text(text)
            mirrors.append(str(mirror))
        for relative, text in FILES.items():
            file = work / "files" / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        hook = work / "hook"
        hook.write_text(HOOK.format(masked=" ".join(MASKED)))
        argv = [
            # Killed with us, in namespaces of its own: no half-built image goes on growing, no mount stays.
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"),
            *("mmdebstrap", "--mode=root", *OPTIONS),
            *(f"--aptopt={line}" for line in _proxies()),
            f"--customize-hook=copy-in {work / 'files' / 'etc'} /",
            f'--customize-hook=sh {hook} "$1"',
            *(SUITE, str(target), *mirrors),
        ]
        said = []
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": name}
        ) as mmdebstrap:
            for line in mmdebstrap.stderr or ():
                said.append(line.strip())
                if line.startswith("I: "):
                    tell(f"lab: image: {line[3:].strip()}")
    if mmdebstrap.returncode:
        last = [line for line in said if line.startswith("E:")] or said[-1:]
        raise Mistake.at(
            "lab", f"mmdebstrap failed: {' '.join(last)}", "see that apt's sources answer (`apt-get update`), then run it again"
        )


def _apt_files() -> dict[str, str]:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return {str(file): file.read_text() for file in files if file.suffix in {".list", ".sources"} and file.is_file()}


def _proxies() -> list[str]:
    if not shutil.which("apt-config"):
        return []
    lines = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in lines if line.startswith("Acquire::http") and "proxy" in line.lower()]
