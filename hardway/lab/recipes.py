"""What the images of lab hosts are made of: Debian with what components need, and what only the lab needs on its hosts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

# Debian 12 and no later: where the kernel still has version 1 control groups, its systemd 252 is the last that boots in a container.
SUITE = "bookworm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Another recipe is another image."""

    name: str  # what is made of it
    form: Literal["directory", "disk"]
    packages: tuple[str, ...]
    files: Mapping[str, str]  # path -> text; there before the packages are
    enabled: tuple[str, ...] = ()
    masked: tuple[str, ...] = (
        "apt-daily-upgrade.timer",  # the hosts have no internet
        "apt-daily.timer",
        "haproxy.service",  # the balancer is kube-apiserver-lb.service
    )

    @property
    def hook(self) -> str:
        """The script that ends the making, given the root directory."""
        lines = (
            "set -eu",
            f'for unit in {" ".join(self.masked)}; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done',
            *(f'chroot "$1" systemctl enable --quiet {unit}' for unit in self.enabled),
            'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/var/log/*.log "$1"/var/log/apt/*',
            ': >"$1/etc/machine-id"',
            ': >"$1/etc/resolv.conf"; chmod 0644 "$1/etc/resolv.conf"',
            'rm -f "$1/var/lib/dbus/machine-id"',
            'mkdir -p "$1/var/lib/containerd"',
        )
        return "".join(f"{line}\n" for line in lines)

    @property
    def options(self) -> tuple[str, ...]:
        """Of mmdebstrap."""
        left_out = (f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale"))
        return ("--variant=minbase", f"--include={','.join(self.packages)}", *left_out)

    def digest(self) -> str:
        """Names the image in the cache."""
        return hashlib.sha256(json.dumps([SUITE, asdict(self), self.hook, self.options]).encode()).hexdigest()[:16]


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
FILES = {
    # A host that does not stop would take 90 s to reboot.
    "etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultTimeoutStopSec=10s\n",
    # Host keys come from the operator's side, one kind only.
    "etc/ssh/sshd_config.d/lab.conf": "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n",
}

CONTAINER = Recipe(
    name="containers",
    form="directory",
    packages=PACKAGES,
    files=FILES
    | {
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
    },
)

VM = Recipe(
    name="VMs",
    form="disk",
    packages=(*PACKAGES, "linux-image-cloud-amd64", "udev"),
    enabled=("lab-files.service", "systemd-networkd.service"),
    files=FILES
    | {
        # Of all drivers only those for the way to the disk: a fifth of the size, and of the time to unpack it.
        "etc/initramfs-tools/conf.d/lab": "MODULES=list\n",
        "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
        "etc/systemd/system/lab-files.service": (
            "[Unit]\nDescription=what the lab gives to this host, from its second disk\nDefaultDependencies=no\n"
            "After=systemd-remount-fs.service\nBefore=sysinit.target network-pre.target shutdown.target\nWants=network-pre.target\n"
            "Conflicts=shutdown.target\n\n"
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=tar --extract --file=/dev/vdb --directory=/\n\n"
            "[Install]\nWantedBy=sysinit.target\n"
        ),
    },
)
