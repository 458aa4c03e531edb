"""Who reads a bundle every five minutes has read it once it has lain there so long; asked of files by the scripts themselves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from hardway.desired import Answer
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.pki import declared
from hardway.remote.cluster import Cluster
from hardway.rotate import believed
from hardway.rotate.tokens import HEADERS, key

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_text("bundle")
    return path


def projected(place: Path, name: str, text: str) -> None:
    """As kubelet lays a volume out: in a sticky directory, where the kernel lets nobody follow a link of the Pod's user."""
    (place / "..1").mkdir(parents=True)
    (place / "..1" / name).write_text(text)
    (place / "..data").symlink_to("..1")
    (place / name).symlink_to(f"..data/{name}")
    place.chmod(0o1777)
    if os.geteuid() == 0:
        os.lchown(place / name, 65532, 0)


def systemctl(directory: Path, started: float) -> dict[str, str]:
    program = directory / "systemctl"
    program.write_text(f"#!/bin/sh\ndate -d @{started:.0f}\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


def asked(script: str, *argv: str, env: dict[str, str] | None = None) -> str:
    return subprocess.run(["sh", "-c", script, "sh", *argv], capture_output=True, text=True, check=True, env=env).stdout


def test_a_bundle_is_as_old_as_its_last_change_unless_its_reader_is_younger(bundle: Path, tmp_path: Path) -> None:
    now = time.time()

    assert int(asked(believed.AGE, str(bundle), "x.service", "301", env=systemctl(tmp_path, now - 3600))) < 60
    assert asked(believed.AGE, str(bundle), "x.service", "301", env=systemctl(tmp_path, now + 60)) == "301\n"


def test_pods_whose_bundle_is_another_are_named_and_of_the_others_the_age(tmp_path: Path) -> None:
    script = believed.PODS.replace("/var/lib/kubelet/pods/", f"{tmp_path}/pods/")
    for pod, text in (("uid-1", "new"), ("uid-2", "old")):
        place = tmp_path / "pods" / pod / "volumes/kubernetes.io~projected/kube-api-access-x"
        projected(place, "ca.crt", text)

    lines = asked(script, hashlib.sha256(b"new").hexdigest()).splitlines()

    assert lines[1:] == ["differs uid-2"]
    assert int(lines[0]) < 60


def test_the_key_of_a_token_is_told_by_its_header_alone(tmp_path: Path) -> None:
    place = tmp_path / "pods/uid-1/volumes/kubernetes.io~projected/kube-api-access-x"
    projected(place, "token", "eyJhbGciOiJFUzI1NiIsImtpZCI6Im5ldyJ9.payload.signature")

    (line,) = asked(HEADERS.replace("/var/lib/kubelet/pods/", f"{tmp_path}/pods/")).splitlines()

    assert "payload" not in line
    pod, age, header = line.split()
    assert (pod, key(header)) == ("uid-1", "new")
    assert int(age) < 60


def test_all_are_asked_until_the_last_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(believed, "PAUSE", 0.0)
    left, told = {"a": 2, "b": 1}, list[str]()

    def ask(name: str) -> str | None:
        if name == "b" and left[name]:
            left[name] -= 1
            raise Mistake.at("b", "is silent")
        left[name] -= 1
        return f"{left[name] + 1} more" if left[name] >= 0 else None

    believed.until_all({name: lambda name=name: ask(name) for name in left}, within=10, tell=told.append)  # type: ignore[misc]

    assert left == {"a": -1, "b": -1}
    assert told == ["waiting for 2 of 2 readers; a: 2 more"]


def test_who_does_not_answer_in_time_is_named_with_the_last_answer() -> None:
    with pytest.raises(Mistake, match=r"^a: after \d+ s: it has not read it$"):
        believed.until_all({"a": lambda: "it has not read it", "b": lambda: None}, within=0, tell=print)


@dataclass
class ApiServers:
    """Three of them; one passes nothing on to kubelets."""

    inventory: Inventory
    asked: list[str] = field(default_factory=list)

    def run(self, *_: object) -> str:
        return "301\n"

    def api(self, path: str, *, host: Host) -> Answer:
        self.asked.append(f"{host.name} {path}")
        return Answer(status=503 if host.name == "controller-2" else 200, body=b"")


def test_an_api_server_has_read_its_bundle_once_it_has_passed_something_on_to_a_kubelet() -> None:
    cluster = ApiServers(load(ROOT / "inventory.yaml"))
    kubernetes = next(one for one in declared.load(ROOT / "certs").authorities if one.authority == "kubernetes")

    found = {name: ask() for name, ask in believed._polled(cast("Cluster", cluster), kubernetes)}

    assert {name: why for name, why in found.items() if why} == {
        "kube-apiserver on controller-2 (kubelet-ca.crt)": "what it passes on to the kubelet of worker-1 is answered with 503"
    }
    assert cluster.asked == [f"controller-{n} /api/v1/nodes/worker-1/proxy/healthz" for n in (1, 2, 3)]
