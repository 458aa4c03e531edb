"""A real sshd on loopback, run by whoever runs the tests, with keys of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from pwd import getpwuid

from hardway.inventory import Host, Ssh

PROGRAM = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


def make_key(path: Path) -> str:
    """A new key; the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(slots=True)
class Sshd:
    """One server."""

    base: Path
    port: int
    process: subprocess.Popen[str]

    @property
    def identity(self) -> Path:
        return self.base / "id"

    @property
    def known_hosts(self) -> Path:
        return self.base / "known_hosts"

    def host(self, name: str = "c1", *, user: str = getpwuid(os.geteuid()).pw_name, via: str | None = None) -> Host:
        ssh = Ssh(user=user, port=self.port, via=via)
        return Host(name=name, address=IPv4Address("127.0.0.1"), roles=frozenset({"controller"}), ssh=ssh)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()


def start(base: Path) -> Sshd:
    """Start one and wait until it listens."""
    assert PROGRAM, "no sshd here: install openssh-server"
    port = free_port()
    host_key = make_key(base / "host_key")
    (base / "authorized_keys").write_text(make_key(base / "id"))
    (base / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (base / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {base}/host_key\nAuthorizedKeysFile {base}/authorized_keys\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd drops its rights
    process = subprocess.Popen([PROGRAM, "-D", "-e", "-f", base / "sshd_config"], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if "listening" in line:
            return Sshd(base, port, process)
    raise AssertionError("sshd ended")
