from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest

from hardway.errors import Mistake
from hardway.lab import network

ROUTES = json.dumps(
    [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "10.8.0.0/16", "dev": "tun0"},
        {"dst": "10.241.0.7", "dev": "eth0"},
        {"dst": "10.242.0.0/24", "dev": "hw-own"},
    ]
)


def test_a_network_that_a_route_leads_to_already_is_found() -> None:
    assert network.overlapping(IPv4Network("10.8.3.0/24"), ROUTES, "hw-own") == "10.8.0.0/16 (dev tun0)"
    assert network.overlapping(IPv4Network("10.241.0.0/24"), ROUTES, "hw-own") == "10.241.0.7 (dev eth0)"


def test_neither_the_default_route_nor_the_labs_own_is_in_the_way() -> None:
    assert network.overlapping(IPv4Network("10.242.0.0/24"), ROUTES, "hw-own") is None
    assert network.overlapping(IPv4Network("10.9.0.0/24"), ROUTES, "hw-own") is None


def test_device_names_fit_and_differ_by_cluster_and_host() -> None:
    names = {network.device(*parts) for parts in (("a" * 63,), ("a" * 62,), ("a", "b"), ("a", "c"), ("b", "c"))}

    assert len(names) == 5
    assert max(map(len, names)) <= 15


def test_an_ethernet_address_is_local_and_for_one_station() -> None:
    first = int(network.mac("a", "b")[:2], 16)

    assert first & 0b11 == 0b10
    assert network.mac("a", "b") == network.mac("a", "b") != network.mac("a", "c")


def test_a_device_that_goes_while_it_is_looked_at_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [False, True]  # from the end
    monkeypatch.setattr(network, "exists", lambda _: seen.pop())

    network.remove("hw-nobody")

    assert seen == []


def test_a_device_that_cannot_be_removed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "exists", lambda _: True)
    with pytest.raises(Mistake, match="link delete dev hw-nobody"):
        network.remove("hw-nobody")
