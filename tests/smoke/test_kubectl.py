"""Connections that kubectl carries into Pods, and what becomes of them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.smoke import kubectl
from hardway.smoke.kubectl import Kubectl

# Listens as `kubectl port-forward` does, says so, and sends who connects its own arguments and process id.
CARRIER = """#!/usr/bin/env python3
import os, socket, sys
end = socket.create_server(("127.0.0.1", 0))
print(f"Forwarding from 127.0.0.1:{end.getsockname()[1]} -> 8080", flush=True)
while True:
    there, _ = end.accept()
    there.sendall(f"{os.getpid()} {' '.join(sys.argv[1:])}".encode())
    there.close()
"""


def program(directory: Path, text: str) -> Kubectl:
    path = directory / "kubectl"
    path.write_text(text)
    path.chmod(0o755)
    return Kubectl(program=path, kubeconfig=Path("admin"), context="there")


def test_a_port_leads_to_the_pod_for_as_long_as_the_context_lasts(tmp_path: Path) -> None:
    with program(tmp_path, CARRIER).forwarded("space", "web", 8080) as port, socket.create_connection(("127.0.0.1", port)) as there:
        pid, _, said = there.makefile().read().partition(" ")

    assert said == "--kubeconfig admin --context there port-forward --namespace space pod/web :8080 --address=127.0.0.1"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_one_that_does_not_begin_is_told_with_its_own_words(tmp_path: Path) -> None:
    refuses = program(tmp_path, "#!/bin/sh\necho 'error: pods \"web\" is forbidden' >&2\nexit 1\n")

    with pytest.raises(Mistake, match=r'`kubectl port-forward pod/web :8080` does not begin: error: pods "web" is forbidden'):
        refuses.forwarded("space", "web", 8080).__enter__()


def test_one_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "CARRIES", 0.2)

    with pytest.raises(Mistake, match="it said nothing in time"):
        program(tmp_path, "#!/bin/sh\nexec sleep 60\n").forwarded("space", "web", 8080).__enter__()
