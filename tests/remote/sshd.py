"""A real sshd on loopback, run by whoever runs the tests, with keys of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from pwd import getpwuid
from typing import Any

from hardway.inventory import Host, Ssh

PROGRAM = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> str:
    """A new key; the public half."""
    cheap = ["-a", "1", *(["-b", "2048"] if kind == "rsa" else [])]
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *cheap, "-N", passphrase, "-C", "test", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(slots=True)
class Sshd:
    """One server."""

    base: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def identity(self) -> Path:
        return self.base / "id"

    @property
    def known_hosts(self) -> Path:
        return self.base / "known_hosts"

    def host(self, name: str = "c1", **ssh: Any) -> Host:
        ssh = {"user": getpwuid(os.geteuid()).pw_name, "port": self.port, **ssh}
        return Host(name=name, address=IPv4Address("127.0.0.1"), roles=frozenset({"controller"}), ssh=Ssh(**ssh))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.base / "log").read_text()


def start(base: Path, settings: str = "", within: Sequence[str | Path] = (), kinds: Sequence[str] = ("ed25519",)) -> Sshd:
    """Start one and wait until it listens; `within` is a command that runs it, such as `unshare`."""
    assert PROGRAM, "no sshd here: install openssh-server"
    port = free_port()
    keys = [make_key(base / ("host_key" if i == 0 else f"host_key_{kind}"), kind) for i, kind in enumerate(kinds)]
    if not (base / "id").exists():
        (base / "authorized_keys").write_text(make_key(base / "id"))
    (base / "known_hosts").write_text("".join(f"[127.0.0.1]:{port} {key}" for key in keys))
    (base / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nAuthorizedKeysFile {base}/authorized_keys\n"
        + "".join(f"HostKey {base}/{'host_key' if i == 0 else f'host_key_{kind}'}\n" for i, kind in enumerate(kinds))
        + f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n{settings}"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd drops its rights
    log = (base / "log").open("w")
    process = subprocess.Popen([*within, PROGRAM, "-D", "-e", "-f", base / "sshd_config"], stderr=log)
    log.close()
    while "listening" not in (base / "log").read_text():
        assert process.poll() is None, (base / "log").read_text()
    return Sshd(base, port, process)
