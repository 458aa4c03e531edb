"""The shipped inventory, and what is wrong with others."""

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hardway.errors import Mistake
from hardway.inventory import Inventory, load, schema, warnings
from hardway.inventory.document import Document
from hardway.inventory.loading import understand

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "inventory.yaml"


def changed(**places: Any) -> dict[str, Any]:
    """The shipped inventory with other values; a place is written with __ between its steps, None removes it."""
    data: dict[str, Any] = YAML(typ="safe").load(SHIPPED)
    for place, value in places.items():
        *path, last = place.split("__")
        at = data
        for step in path:
            at = at.setdefault(step.replace("_1", "-1").replace("_2", "-2").replace("_3", "-3"), {})
        last = last.replace("lb_1", "lb-1").replace("controller_", "controller-")
        if value is None:
            del at[last]
        else:
            at[last] = value
    return data


def loaded(data: dict[str, Any]) -> Inventory:
    return understand(Document.parse(json.dumps(data), name="inventory.yaml"), directory=Path("/where/it/is"))


def refused(data: dict[str, Any]) -> list[str]:
    with pytest.raises(Mistake) as caught:
        loaded(data)
    return [line.partition(" ")[2] for line in str(caught.value).splitlines()]


def test_the_shipped_inventory_is_three_controllers_behind_a_balancer() -> None:
    inventory = load(SHIPPED)

    assert [host.name for host in inventory.on("controller")] == ["controller-1", "controller-2", "controller-3"]
    assert [host.name for host in inventory.on("loadbalancer")] == ["lb-1"]
    assert inventory.server == "https://10.240.0.10:6443"
    assert inventory.service_address == IPv4Address("10.32.0.1")
    assert warnings(inventory) == ()


def test_whom_to_ask_for_names_outside_of_the_cluster_may_be_written_also_that_it_is_nobody() -> None:
    assert loaded(changed()).networks.nameservers is None
    assert loaded(changed(networks__nameservers=[])).networks.nameservers == ()
    assert loaded(changed(networks__nameservers=["10.0.0.2"])).networks.nameservers == (IPv4Address("10.0.0.2"),)


def test_a_kubelet_that_asks_for_its_certificate_needs_somebody_who_signs() -> None:
    assert loaded(changed(kubelet={"tls": "bootstrap"})).kubelet.tls == "bootstrap"
    what = "a kubelet that asks for its certificate needs somebody who signs it, and csr_signer is none"
    assert refused(changed(kubelet={"tls": "bootstrap"}, csr_signer="none")) == [
        f"kubelet.tls: {what}; take issued, or `csr_signer: controller-manager`"
    ]


def test_the_committed_schema_is_current_and_named_by_the_inventory() -> None:
    expected = json.dumps(schema(), indent=2) + "\n"

    assert expected == (ROOT / "docs/inventory.schema.json").read_text(), "./inv inventory.schema > docs/inventory.schema.json"
    assert SHIPPED.read_text().startswith("# yaml-language-server: $schema=docs/inventory.schema.json\n")


def test_the_schema_refuses_unknown_keys_at_every_level() -> None:
    def objects(of: Any) -> Any:
        if isinstance(of, dict):
            if "properties" in of:
                yield of
            for below in of.values():
                yield from objects(below)

    assert all(described["additionalProperties"] is False for described in objects(schema()))
    assert len(list(objects(schema()))) >= 7


def test_ssh_settings_of_a_host_go_over_those_of_all() -> None:
    data = changed(
        ssh={"user": "admin", "key": "keys/all", "sudo": True},
        hosts__lb_1__ssh={"port": 2222, "sudo": False, "via": "jump@bastion.example.org:22"},
    )

    lb, first, *_ = loaded(data).hosts
    assert (lb.ssh.user, lb.ssh.port, lb.ssh.sudo, lb.ssh.via) == ("admin", 2222, False, "jump@bastion.example.org:22")
    assert (first.ssh.user, first.ssh.port, first.ssh.sudo, first.ssh.via) == ("admin", None, True, None)
    assert first.ssh.key == Path("/where/it/is/keys/all")


def test_values_of_flags_become_text_as_the_daemons_read_it() -> None:
    data = changed(flags={"kube-apiserver": {"event-ttl": "2h", "profiling": False, "max-requests-inflight": 800}})

    assert loaded(data).flags == {"kube-apiserver": {"event-ttl": "2h", "profiling": "false", "max-requests-inflight": "800"}}


def test_one_host_with_all_roles_and_no_balancer_is_fine() -> None:
    data = changed(
        hosts={"one": {"address": "10.240.0.11", "roles": ["controller"]}}, endpoint={"loadbalancer": "none", "address": "10.240.0.11"}
    )

    assert warnings(loaded(data)) == ()


def test_a_balancer_on_a_controller_takes_a_second_port() -> None:
    data = changed(hosts={"one": {"address": "10.240.0.11", "roles": ["controller", "loadbalancer"]}}, endpoint__address="10.240.0.11")

    expected = ["endpoint.port: 6443 is kube-apiserver's port on one, which is controller and balancer; take another one, such as 8443"]
    assert expected == refused(data)
    data["endpoint"]["port"] = 8443
    assert loaded(data).server == "https://10.240.0.11:8443"


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"networks__pod_cidr": "10.32.0.0/16"}, "networks.pod_cidr: 10.32.0.0/16 overlaps service_cidr 10.32.0.0/24"),
        ({"networks__pod_cidr": "10.240.0.0/16"}, "networks.pod_cidr: 10.240.0.0/16 overlaps host_cidr 10.240.0.0/24"),
        ({"networks__service_cidr": "10.240.0.128/25"}, "networks.service_cidr: 10.240.0.128/25 overlaps host_cidr 10.240.0.0/24"),
        ({"networks__service_cidr": "10.32.0.0/30"}, "networks.service_cidr: 10.32.0.0/30 has the wrong size"),
        ({"networks__pod_cidr": "10.200.0.0/25"}, "networks.pod_cidr: 10.200.0.0/25 has the wrong size"),
        ({"networks__pod_cidr": "fd00::/48"}, 'networks.pod_cidr: "fd00::/48" is IPv6, which is not supported yet'),
        ({"networks__nameservers": ["10.32.0.10"]}, "networks.nameservers[0]: 10.32.0.10 is in service_cidr 10.32.0.0/24"),
        ({"networks__nameservers": ["127.0.0.53"]}, "networks.nameservers[0]: 127.0.0.53 is no address of a machine"),
        ({"networks__host_cidr": None}, "networks.host_cidr: is missing; the lab makes this network"),
        ({"hosts__controller_2__address": "10.240.0.11"}, "hosts.controller-2.address: 10.240.0.11 is the address of controller-1 too"),
        ({"hosts__controller_2__address": "10.241.0.11"}, "hosts.controller-2.address: 10.241.0.11 is not in host_cidr"),
        ({"hosts__controller_2__address": "10.240.0.1"}, "hosts.controller-2.address: 10.240.0.1 is the network's, the bridge's or"),
        ({"hosts__controller_2__address": "10.32.0.7"}, "hosts.controller-2.address: 10.32.0.7 is in service_cidr 10.32.0.0/24"),
        ({"hosts__controller_2__address": "127.0.0.1"}, "hosts.controller-2.address: 127.0.0.1 is no address of a machine"),
        ({"hosts__controller_2__address": "fe80::1"}, 'hosts.controller-2.address: "fe80::1" is IPv6, which is not supported yet'),
        ({"hosts__controller_2__sans": ["fe80::1"]}, 'hosts.controller-2.sans[0]: "fe80::1" is IPv6, which is not supported yet'),
        ({"hosts__controller_2__sans": ["10.0.0.300"]}, 'hosts.controller-2.sans[0]: "10.0.0.300" is neither a DNS name nor'),
        ({"hosts__controller_2__sans": ["a b"]}, 'hosts.controller-2.sans[0]: "a b" is neither a DNS name nor'),
        ({"hosts__controller_2__roles": []}, "hosts.controller-2.roles: is empty; name at least one"),
        (
            {"hosts__controller_2__roles": ["master"]},
            'hosts.controller-2.roles[0]: "master" is not one of controller, worker, loadbalancer',
        ),
        ({"hosts__controller_2__ssh": {"port": 0}}, "hosts.controller-2.ssh.port: 0 is out of range; at least 1"),
        ({"hosts__controller_2__ssh": {"user": "a b"}}, 'hosts.controller-2.ssh.user: "a b" is no user name'),
        ({"networks__domain": "0"}, 'networks.domain: "0" is no text to a daemon'),
        ({"cluster": "1e3"}, 'cluster: "1e3" is no text to a daemon that reads it in YAML; take a name that is no number'),
        ({"networks__domain": "2026-11-25"}, 'networks.domain: "2026-11-25" is no text to a daemon'),
        ({"hosts__controller_2__ssh": {"host": "-oProxyCommand=x"}}, 'hosts.controller-2.ssh.host: "-oProxyCommand=x" is nothing to dial'),
        ({"hosts__controller_2__ssh": {"via": "-oProxyCommand=x"}}, 'hosts.controller-2.ssh.via: "-oProxyCommand=x" is no jump host'),
        ({"hosts__controller_2__ssh": {"key": "a\nb"}}, "hosts.controller-2.ssh.key: a text of 3 characters is no path"),
        (
            {"hosts__controller_2__ssh": {"strict": False}},
            "hosts.controller-2.ssh.strict: unknown key; known: host, user, port, key, via, sudo",
        ),
        ({"hosts__Upper": {"address": "10.240.0.20", "roles": ["worker"]}}, 'hosts.Upper: "Upper" is no DNS label'),
        ({"hosts__a.b": {"address": "10.240.0.20", "roles": ["worker"]}}, 'hosts.a.b: "a.b" is no DNS label'),
        ({"hosts__localhost": {"address": "10.240.0.20", "roles": ["worker"]}}, "hosts.localhost: localhost is every machine's name"),
        ({"hosts__lb_1": None}, "endpoint.loadbalancer: haproxy needs a host for it; give one the role loadbalancer"),
        ({"hosts__lb2": {"address": "10.240.0.9", "roles": ["loadbalancer"]}}, "hosts.lb2.roles: lb-1 and lb2 are balancers"),
        ({"endpoint__address": "10.240.0.11"}, "endpoint.address: 10.240.0.11 is not the balancer's address; lb-1 has 10.240.0.10"),
        ({"endpoint__loadbalancer": "external"}, "hosts.lb-1.roles: lb-1 is a balancer, and endpoint.loadbalancer is external"),
        ({"endpoint__loadbalancer": "none"}, "endpoint.loadbalancer: 3 controllers need a balancer"),
        ({"endpoint__name": "UPPER"}, 'endpoint.name: "UPPER" is no DNS name'),
        ({"cluster": "../../etc"}, 'cluster: "../../etc" is no DNS label'),
        ({"versions__kubernetes": "v1.37.2"}, 'versions.kubernetes: "v1.37.2" is no version; three numbers without a v'),
        ({"versions__etcd": 3.7}, "versions.etcd: must be text, not 3.7; put it in quotes"),
        ({"flags": {"kube-apisever": {}}}, "flags.kube-apisever: unknown key; did you mean kube-apiserver?"),
        ({"flags": {"etcd": {"--x": "1"}}}, 'flags.etcd.--x: "--x" is no name of a flag'),
        ({"flags": {"etcd": {"x": "a b"}}}, 'flags.etcd.x: "a b" has a blank'),
        ({"flags": {"etcd": {"x": "$(id)"}}}, 'flags.etcd.x: "$(id)" has a blank'),
        ({"flags": {"etcd": {"x": []}}}, "flags.etcd.x: must be text, not a list or"),
        ({"binaries": {"mirror": "ftp://x"}}, 'binaries.mirror: "ftp://x" is no URL to download from'),
        ({"lab": "kvm"}, 'lab: "kvm" is not one of nspawn, qemu'),
        ({"hosts__worker_1__lab": "kvm"}, 'hosts.worker-1.lab: "kvm" is not one of nspawn, qemu'),
        (
            {"lab": None, "hosts__worker_1__lab": "qemu"},
            "hosts.worker-1.lab: the other hosts are yours: a lab has all hosts of a cluster, or none; write `lab: qemu` at the top",
        ),
        ({"keys": "rs"}, 'keys: "rs" is not one of ec, rsa; did you mean rsa?'),
        ({"endpoint": None}, "endpoint: is missing"),
        ({"netwroks": {}}, "netwroks: unknown key; did you mean networks?"),
    ],
)
def test_a_mistake_is_named_with_its_field_and_a_next_step(places: dict[str, Any], expected: str) -> None:
    found = refused(changed(**places))

    assert any(line.startswith(expected) for line in found), found


def test_a_host_of_the_lab_may_be_made_otherwise_than_the_others() -> None:
    inventory = loaded(changed(hosts__worker_1__lab="qemu"))

    assert {host.name: inventory.made_by(host) for host in inventory.on("worker")} == {"worker-1": "qemu", "worker-2": "nspawn"}


def test_without_a_controller_nothing_can_be_made() -> None:
    data = changed(hosts={"lb-1": {"address": "10.240.0.10", "roles": ["loadbalancer"]}})

    assert refused(data) == ["hosts: no host is a controller; give one, three or five hosts the role controller"]


def test_without_a_balancer_the_endpoint_is_the_controller() -> None:
    data = changed(
        hosts={"one": {"address": "10.240.0.11", "roles": ["controller"]}},
        endpoint={"loadbalancer": "none", "address": "10.240.0.12", "port": 443},
    )

    expected = [
        "endpoint.address: 10.240.0.12 is not the controller's address; one has 10.240.0.11",
        "endpoint.port: 443 is not the port of the API server; without a balancer it is 6443",
    ]
    assert expected == refused(data)


def test_an_unknown_key_or_a_broken_host_does_not_hide_what_else_is_wrong() -> None:
    data = changed(
        bogus=1,
        hosts__controller_1__address="fe80::1",
        hosts__controller_2__address="10.240.0.13",
        hosts__controller_3__rolls=[],
        networks__pod_cidr="10.32.0.0/16",
        versions__kubernetes="1.37",
        flags={"etcd": {"x": "a b"}, "nope": {}},
        cluster="A",
    )

    fields = {line.partition(":")[0] for line in refused(data)}
    expected = {
        "bogus",
        "hosts.controller-1.address",
        "hosts.controller-3.rolls",
        "networks.pod_cidr",
        "versions.kubernetes",
        "flags.etcd.x",
    }
    assert expected | {"flags.nope", "cluster"} == fields


def test_addresses_outside_the_host_network_are_fine_for_machines_of_your_own() -> None:
    data = changed(lab=None, hosts__controller_2__address="192.168.7.7", networks__host_cidr=None)

    assert loaded(data).hosts[2].address == IPv4Address("192.168.7.7")


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"hosts__controller_3": None}, "2 controllers: etcd survives no more failures than with 1; take 1 or 3"),
        ({"versions__kubernetes": "1.35.0"}, "Kubernetes 1.35.0 was not tried; 1.36 and 1.37 were"),
    ],
)
def test_what_works_and_is_seldom_meant_is_a_warning(places: dict[str, Any], expected: str) -> None:
    (found,) = warnings(loaded(changed(**places)))

    assert expected in str(found)


HOSTILE = st.text(min_size=1, max_size=30) | st.sampled_from(["a\nb", "$(id)", "`id`", '"', "'", "%n", "a;b", "-x", "a\\", "\u2028", "é"])
FREE_TEXT = ["cluster", "networks__domain", "endpoint__name", "versions__kubernetes", "binaries__mirror", "ssh__user", "ssh__via"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*FREE_TEXT, "flag name", "flag", "host", "san"]), HOSTILE)
def test_a_hostile_string_is_refused_or_is_one_plain_word(place: str, text: str) -> None:
    match place:
        case "flag name":
            data = changed(flags={"etcd": {text: "1"}})
        case "flag":
            data = changed(flags={"etcd": {"x": text}})
        case "host":
            data = changed() | {"hosts": {**changed()["hosts"], text: {"address": "10.240.0.99", "roles": ["worker"]}}}
        case "san":
            data = changed(hosts__lb_1__sans=[text])
        case _:
            data = changed(**{place: text})

    try:
        loaded(data)
    except Mistake as e:
        assert all(len(str(finding).splitlines()) == 1 for finding in e.findings)  # noqa: PT017 (either is fine)
    else:
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set(" '\"\\$%`")
