"""hosts.trust as an operator runs it, for a host that is dialled elsewhere than at its address; over a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.remote.sshd import Sshd, make_key, start

pytestmark = pytest.mark.lab
ROOT = Path(__file__).parents[2]
INVENTORY = """
cluster: {cluster}
ssh: {{host: 127.0.0.1, port: {port}}}
hosts:
  control-1: {{address: 10.9.0.11, roles: [controller]}}
networks: {{service_cidr: 10.32.0.0/24, pod_cidr: 10.200.0.0/16}}
endpoint: {{loadbalancer: none, address: 10.9.0.11}}
"""


@dataclass
class Operator:
    inventory: Path
    sshd: Sshd
    state: Path

    def trust(self, *words: str) -> tuple[int, str]:
        argv = [sys.executable, str(ROOT / "tasks.py"), "--inventory", str(self.inventory), "hosts.trust", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    server = start(tmp_path)
    cluster = f"trust-{os.getpid()}"
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.format(cluster=cluster, port=server.port))
    state = ROOT / "state" / cluster
    yield Operator(path, server, state)
    server.stop()
    shutil.rmtree(state, ignore_errors=True)


def test_new_keys_are_recorded_and_a_changed_one_only_if_its_host_is_named(operator: Operator, tmp_path: Path) -> None:
    code, said = operator.trust()
    assert (code, "recorded" in said) == (0, True), said
    assert f"control-1  [127.0.0.1]:{operator.sshd.port}  ssh-ed25519  SHA256:" in said
    recorded = (operator.state / "known_hosts").read_text()
    assert recorded.startswith(f"[127.0.0.1]:{operator.sshd.port} ssh-ed25519 ")
    code, said = operator.trust()
    assert (code, "  known" in said) == (0, True), said

    other = f"[127.0.0.1]:{operator.sshd.port} {make_key(tmp_path / 'other')}"
    (operator.state / "known_hosts").write_text(other)
    code, said = operator.trust()
    assert code == 1
    assert "the key of control-1 has changed; if the host was made anew, run it with --replace NAME; if not, somebody is in between" in said
    assert (operator.state / "known_hosts").read_text() == other
    code, said = operator.trust("--replace", "control-1")
    assert (code, "recorded" in said) == (0, True), said
    assert (operator.state / "known_hosts").read_text() == recorded


def test_a_host_that_is_down_is_told_and_nothing_is_recorded(operator: Operator) -> None:
    operator.sshd.process.terminate()
    operator.sshd.process.wait()
    code, said = operator.trust()
    assert code == 1
    assert f"error: control-1: cannot be reached at 127.0.0.1 port {operator.sshd.port}: " in said
    assert not (operator.state / "known_hosts").exists()
