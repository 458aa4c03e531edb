"""What would leave nobody to go on is not killed."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import pytest

from hardway.desired import Stage
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.smoke import CHECKS
from hardway.smoke.verdict import Skipped

HOST = Host(name="controller-1", address=IPv4Address("10.0.0.1"), roles=frozenset({"controller"}))


@dataclass
class FakeStage:
    """A cluster of one controller, which answers nothing: nothing is to be asked of it."""

    inventory: Inventory


@pytest.mark.parametrize("name", ["controllers.leader-takeover", "scheduler.leader-takeover", "etcd.survives-member-loss"])
def test_the_only_instance_is_not_killed(name: str) -> None:
    networks = Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16"))
    endpoint = Endpoint(loadbalancer="none", address=HOST.address)
    stage = FakeStage(Inventory(cluster="test", hosts=(HOST,), networks=networks, endpoint=endpoint))
    (check,) = (one for one in CHECKS if one.name == name)

    with pytest.raises(Skipped):
        check.run(cast("Stage", stage))
