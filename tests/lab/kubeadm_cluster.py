"""A cluster that this kit did not build: the real `kubeadm init` and `kubeadm join`, on bare hosts that somebody prepared by hand."""

from __future__ import annotations

import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hardway.binaries import CACHE, fetch
from hardway.inventory import Host
from hardway.lab import hosts, image, recipes
from tests.lab import kubeadm_images
from tests.lab.conftest import LabCluster

HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
RUNTIME = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl", "kubelet", "kubeadm")
PLUGINS = ("bridge", "host-local", "loopback", "portmap")
ON_WORKERS = ("pause", "kube-proxy", "coredns")
PATIENCE = 900  # seconds for one command on a host; `kubeadm init` on a busy machine is the longest
READY = "600s"
SYSTEM = "/etc/systemd/system"

# The packages of the runtime and of kubeadm bring units such as these.
CONTAINERD = """\
[Unit]
After=network.target
[Service]
Type=notify
ExecStart=/usr/local/bin/containerd
Delegate=yes
KillMode=process
Restart=always
[Install]
WantedBy=multi-user.target
"""
KUBELET = """\
[Unit]
Wants=containerd.service
After=containerd.service
StartLimitIntervalSec=0
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \
  --config=/var/lib/kubelet/config.yaml --config-dir=/etc/kubernetes/kubelet/conf.d $KUBELET_KUBEADM_ARGS
KillMode=process
Restart=always
RestartSec=5
[Install]
WantedBy=multi-user.target
"""
# In conf.d is what only the lab's hosts need.
RUNTIME_CONFIG = """\
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = {systemd}
"""
SYSCTL = "net.ipv4.ip_forward=1\nnet.bridge.bridge-nf-call-iptables=1\nnet.bridge.bridge-nf-call-ip6tables=1\n"
# CoreDNS wants a nameserver to pass questions on to: one that refuses them at once.
INIT = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}}}
timeouts: {{controlPlaneComponentHealthCheck: 10m, kubeletHealthCheck: 5m, kubernetesAPICall: 3m}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v{version}
clusterName: theirs
networking: {{podSubnet: 10.210.0.0/16, serviceSubnet: 10.96.0.0/16}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
resolvConf: /etc/kubernetes/resolv.conf
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {{maxPerCore: 0}}
"""


@dataclass
class KubeadmCluster:
    """One node of its control plane and a worker, and a directory for what its administrator keeps."""

    lab: LabCluster
    directory: Path

    @property
    def nodes(self) -> tuple[Host, Host]:
        first, second = self.lab.inventory.hosts
        return first, second

    @property
    def admin(self) -> Path:
        return self.directory / "admin.conf"

    @cached_property
    def programs(self) -> dict[str, Path]:
        names = {*RUNTIME, *PLUGINS, *kubeadm_images.PROGRAMS, "kubectl", "agnhost.oci"}
        return {name: one.path for name, one in fetch(names, HERE, self.lab.inventory, CACHE, print).items()}

    @property
    def version(self) -> str:
        return self.lab.inventory.versions.kubernetes

    def make(self) -> None:
        """All of it, until every node and every add-on is Ready."""
        archives = kubeadm_images.archives(
            self.programs, self.version, HERE, image.ensure(recipes.CONTAINER, hosts.cache(), print), self.directory
        )
        control, worker = self.nodes
        with ThreadPoolExecutor() as pool:
            preparing = pool.submit(self._prepare, worker, [archives[name] for name in ON_WORKERS])
            self._prepare(control, [*archives.values()])
            for archive in archives.values():
                archive.unlink()
            self._init(control)
            preparing.result()
        join = self.run(control, "kubeadm", "token", "create", "--print-join-command").split()
        self.run(worker, *join, "--ignore-preflight-errors=SystemVerification")
        self._connect()
        self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={READY}")
        for addon in ("daemonset/kube-proxy", "deployment/coredns"):
            self.rolled_out(addon)
        leases = [f"lease/{node.name}" for node in self.nodes]  # which a kubelet makes some seconds after its Node
        self.kubectl("--namespace=kube-node-lease", "wait", "--for=create", *leases, f"--timeout={READY}")

    def kubectl(self, *argv: str, said: str | None = None) -> str:
        """As the administrator."""
        return _run([str(self.programs["kubectl"]), f"--kubeconfig={self.admin}", *argv], said)

    def rolled_out(self, addon: str) -> None:
        self.kubectl("--namespace=kube-system", "rollout", "status", addon, f"--timeout={READY}")

    def objects(self) -> set[str]:
        """All that there is, but for what comes and goes by itself."""
        kinds = set(self.kubectl("api-resources", "--verbs=list", "--output=name").split())
        kinds -= {"events", "events.events.k8s.io"}
        listed = self.kubectl("get", ",".join(sorted(kinds)), "--all-namespaces", "--output=json")
        return {f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}" for one in json.loads(listed)["items"]}

    def run(self, host: Host, *argv: str, said: str | None = None) -> str:
        return _run(self._ssh(host, *argv), said)

    def _ssh(self, host: Host, *argv: str) -> list[str]:
        state = self.lab.state.root
        options = ("StrictHostKeyChecking=yes", f"UserKnownHostsFile={state / 'known_hosts'}", "BatchMode=yes", "LogLevel=ERROR")
        return ["ssh", "-i", str(hosts.key(state)), *(f"-o{one}" for one in options), f"root@{host.address}", *argv]

    def _prepare(self, host: Host, archives: list[Path]) -> None:
        """Put the runtime and the kubelet there, and the images that nobody can pull."""
        second = self.run(host, "stat -f -c %T /sys/fs/cgroup").strip() == "cgroup2fs"
        pause = kubeadm_images.listed(self.programs["kubeadm"], self.version)["pause"]
        files: dict[str, Path | str] = {
            **{f"/usr/local/bin/{name}": self.programs[name] for name in RUNTIME},
            **{f"/opt/cni/bin/{name}": self.programs[name] for name in PLUGINS},
            f"{SYSTEM}/containerd.service": CONTAINERD,
            f"{SYSTEM}/kubelet.service": KUBELET,
            "/etc/containerd/config.toml": RUNTIME_CONFIG.format(pause=pause, systemd=str(second).lower()),
            "/etc/sysctl.d/kubernetes.conf": SYSCTL,
            "/etc/kubernetes/resolv.conf": f"nameserver {self.nodes[0].address}\n",
        }
        self._put(host, files)
        self.run(host, "mkdir -p /etc/cni/net.d && sysctl --quiet --load /etc/sysctl.d/kubernetes.conf")
        self.run(host, "systemctl daemon-reload && systemctl enable --quiet --now containerd && systemctl enable --quiet kubelet")
        for archive in (*archives, self.programs["agnhost.oci"]):
            with archive.open("rb") as file:
                argv = self._ssh(host, "ctr --namespace k8s.io images import -")
                subprocess.run(argv, stdin=file, check=True, capture_output=True, timeout=PATIENCE)

    def _put(self, host: Host, files: Mapping[str, Path | str]) -> None:
        argv = self._ssh(host, "tar --extract --directory / --no-same-owner --no-overwrite-dir")
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as there:
            assert there.stdin
            with tarfile.open(fileobj=there.stdin, mode="w|") as tar:
                for path, content in files.items():
                    info = tarfile.TarInfo(path.lstrip("/"))
                    info.mode = 0o755 if isinstance(content, Path) else 0o644
                    with closing(content.open("rb") if isinstance(content, Path) else io.BytesIO(content.encode())) as source:
                        info.size = source.seek(0, io.SEEK_END)
                        source.seek(0)
                        tar.addfile(info, source)
        assert there.returncode == 0

    def _init(self, host: Host) -> None:
        config = INIT.format(address=host.address, version=self.version)
        self.run(host, "cat >/root/kubeadm.yaml", said=config)
        print(self.run(host, "kubeadm init --config /root/kubeadm.yaml --ignore-preflight-errors=SystemVerification"))
        self.admin.touch(mode=0o600)
        self.admin.write_text(self.run(host, "cat /etc/kubernetes/admin.conf"))

    def _connect(self) -> None:
        """A network for Pods: a bridge on each node, with the range that its Node was given, and a route to the other's."""
        template = "jsonpath={.spec.podCIDR}"
        self.kubectl("wait", f"--for={template}", "nodes", "--all", f"--timeout={READY}")
        ranges = {host: self.kubectl("get", "node", host.name, "--output", template) for host in self.nodes}
        for host, other in (self.nodes, self.nodes[::-1]):
            self.run(host, f"ip route replace {ranges[other]} via {other.address}")
            self.run(host, "cat >/etc/cni/net.d/10-theirs.conflist", said=json.dumps(_conflist(ranges[host])))


def _conflist(pod_range: str) -> Mapping[str, Any]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": pod_range}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "theirs", "plugins": [bridge]}


def _run(argv: list[str], said: str | None) -> str:
    done = subprocess.run(argv, input=said or "", capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, f"{argv[-1]}: {done.stdout}{done.stderr}"
    return done.stdout
