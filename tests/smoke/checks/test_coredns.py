"""What two kinds of nslookup say is understood: busybox's, of the image that is made here, and BIND's, of the one that is published."""

from __future__ import annotations

from typing import Any

import pytest

from hardway.smoke.checks import coredns
from hardway.smoke.checks.kube_proxy import Service
from hardway.smoke.verdict import Failed
from tests.smoke.test_pods import FakeStage

POD: dict[str, Any] = {"metadata": {"name": "web"}, "spec": {"nodeName": "n1"}}
SHELL = "/api/v1/namespaces/proving/pods/web:8080/proxy/shell"
SERVICE = Service(name="svc", path="/svc", address="10.96.0.7")
BUSYBOX = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\nName:\ta.b\nAddress: 10.1.0.5\nName:\ta.b\nAddress: 10.1.0.6\n"
BIND = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10#53\n\nName:\ta.b\nAddress: 10.1.0.5\nName:\ta.b\nAddress: 10.1.0.6\n"
UNKNOWN = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\n** server can't find a.b: NXDOMAIN\n"
TARGET = "svc.proving.svc.example.org"


def saying(output: str) -> FakeStage:
    return FakeStage({SHELL: [(200, {"output": output})]})


@pytest.mark.parametrize("output", [BUSYBOX, BIND], ids=["busybox", "BIND"])
def test_the_addresses_of_a_name_are_understood(output: str) -> None:
    assert coredns._asked(saying(output).stage, POD, "a.b.", {"10.1.0.5", "10.1.0.6"}, "") == "10.1.0.5, 10.1.0.6"
    with pytest.raises(Failed, match=r"told of 10\.0\.0\.9 that a\.b\. is 10\.1\.0\.5; got"):
        coredns._asked(saying(output).stage, POD, "a.b.", {"10.1.0.5"}, "10.0.0.9")


@pytest.mark.parametrize(("output", "got"), [(UNKNOWN, "NXDOMAIN"), ("", "no answer within 12 s")])
def test_a_name_that_nobody_knows_fails_with_what_was_said(output: str, got: str) -> None:
    for wanted in ({"10.1.0.5"}, set[str]()):
        with pytest.raises(Failed, match=got):
            coredns._asked(saying(output).stage, POD, "a.b.", wanted, "")


@pytest.mark.parametrize("end", ["", "."], ids=["busybox", "BIND"])
def test_the_port_of_a_service_is_understood(end: str) -> None:
    said = f"_http._tcp.{TARGET}\tservice = 0 100 80 {TARGET}{end}\n"

    assert coredns._port_of(saying(said).stage, POD, SERVICE, "example.org").endswith(f"is port 80 of {TARGET}")
    with pytest.raises(Failed):
        coredns._port_of(saying(said.replace(" 80 ", " 8080 ")).stage, POD, SERVICE, "example.org")


def test_the_domain_is_what_the_kubelet_tells_pods() -> None:
    said = "search proving.svc.example.org svc.example.org example.org\nnameserver 10.96.0.10\noptions ndots:5\n"

    assert coredns._domain(saying(said).stage, POD) == "example.org"
    with pytest.raises(Failed, match="to name the cluster's domain"):
        coredns._domain(saying("nameserver 192.0.2.1\n").stage, POD)
