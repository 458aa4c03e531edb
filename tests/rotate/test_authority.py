"""Whom a rotation restarts for pace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from hardway.components import kube_controller_manager, kube_proxy, kube_scheduler
from hardway.desired import Component
from hardway.inventory import Host, load
from hardway.pki import declared
from hardway.remote.cluster import Cluster
from hardway.rotate import authority

ROOT = Path(__file__).parents[2]
INVENTORY = load(ROOT / "inventory.yaml")
(KUBERNETES,) = (one for one in declared.load(ROOT / "certs").wanted(INVENTORY) if one.authority == "kubernetes")


@dataclass
class Hosts:
    """They say of each file how long it has lain there, or that who reads it has begun since."""

    age: str
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def run(self, host: Host, *argv: str) -> str:
        path, unit, younger = argv[-3:]
        self.asked.append((host.name, path, unit))
        return f"{self.age or younger}\n"


@pytest.mark.parametrize(
    ("component", "file"),
    [
        (kube_scheduler.COMPONENT, "/etc/kubernetes/kube-scheduler/client.pem"),
        (kube_controller_manager.COMPONENT, "/etc/kubernetes/kube-controller-manager/client.pem"),
        (kube_proxy.COMPONENT, "/etc/kubernetes/kube-proxy/client.pem"),
    ],
)
def test_who_has_begun_since_its_certificate_came_is_not_restarted_again(component: Component, file: str) -> None:
    host = component.hosts(INVENTORY)[0]
    for age, older in (("12", True), ("", False)):
        hosts = Hosts(age=age)

        assert authority._is_older(cast("Cluster", hosts), KUBERNETES, component, host) is older
        assert hosts.asked == [(host.name, file, component.unit)]
