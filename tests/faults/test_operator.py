"""Faults of what an operator has: his state directory, his inventory, his clock; and what a look at the hosts finds before a push."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest
from cryptography import x509

from hardway import preflight
from hardway.components import etcd, installed
from hardway.errors import Finding, Mistake
from hardway.inventory import Host, load
from hardway.pki import declared, issue
from hardway.pki.credentials import credentials
from hardway.pki.pair import new_key, private_pem
from hardway.pki.request import requests
from hardway.preflight import Case
from hardway.push import objects
from hardway.remote.cluster import Cluster
from hardway.state import State
from tests.faults.fleet import INVENTORY, OLD, ROOT, Fleet
from tests.faults.fleet import LEAF as FLEETS_LEAF
from tests.faults.test_host import mounted, remounted, wants_root
from tests.remote.fakehost import FakeHost
from tests.remote.test_facts import LISTENS, TCP, write

pytestmark = pytest.mark.lab
DECLARATIONS = declared.load(ROOT / "certs")
LEAF = "pki/etcd/etcd-peer@controller-1.pem"
CONTROLLER, WORKER = INVENTORY.on("controller")[0], INVENTORY.on("worker")[0]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> State:
    state = State(tmp_path_factory.mktemp("state") / "kit")
    issue.ensure(DECLARATIONS, INVENTORY, state, datetime.now(UTC))
    return state


@pytest.fixture
def state(pristine: State, tmp_path: Path) -> State:
    return State(Path(shutil.copytree(pristine.root, tmp_path / "kit")))


def ensure(state: State, at: datetime) -> dict[str, str]:
    """What a push issues, and why."""
    return {made.file: made.why for made in issue.ensure(DECLARATIONS, INVENTORY, state, at)}


def authority(state: State, name: str) -> str:
    (file,) = state.glob(f"pki/{name}/authority-*.pem")
    return file


def refused(state: State, at: datetime) -> str:
    before = {name: state.read(name) for name in state.glob("pki/**/*")}
    with pytest.raises(Mistake) as caught:
        ensure(state, at)
    assert {name: state.read(name) for name in state.glob("pki/**/*")} == before
    return str(caught.value)


@wants_root
def test_fault_11_disk_full_where_state_is(state: State, now: datetime) -> None:
    for file in state.glob("pki/etcd/etcd-*"):
        state.remove(file)
    rest = {name: state.read(name) for name in state.glob("pki/**/*")}
    with mounted(state.root, "1m"):
        filler = state.root / "filler"
        filler.touch(mode=0o600)
        with suppress(OSError), filler.open("wb") as rubbish:
            while True:
                rubbish.write(bytes(1 << 16))
                rubbish.flush()
        with pytest.raises(Mistake, match="No space left on device"):
            ensure(state, now)
        with pytest.raises(Mistake, match="No space left on device"), state.draft():
            pass
        assert {name: data for name in state.glob("pki/**/*") if (data := state.read(name))}.items() >= rest.items()
        assert all(b"-----END" in state.read(name) for name in state.glob("pki/etcd/*"))  # nothing half-written
        remounted(state.root, "size=8m")
        assert set(ensure(state, now)) == set(state.glob("pki/etcd/etcd-*"))
        assert ensure(state, now) == {}


def test_fault_14_a_certificate_without_its_key(state: State, now: datetime) -> None:
    state.write(LEAF, state.read(LEAF).replace(_key(state.read(LEAF)), b""))
    assert ensure(state, now).keys() == {LEAF}
    assert ensure(state, now) == {}


def test_fault_15_a_key_that_is_not_the_certificates(state: State, now: datetime) -> None:
    certificate = x509.load_pem_x509_certificate(state.read(LEAF))
    state.write(LEAF, state.read(LEAF).replace(_key(state.read(LEAF)), private_pem(new_key("ec"))))
    assert ensure(state, now).keys() == {LEAF}
    assert x509.load_pem_x509_certificate(state.read(LEAF)) != certificate


def test_fault_16_the_key_of_an_authority_is_missing(state: State, now: datetime) -> None:
    file = authority(state, "etcd")
    state.write(file, state.read(file).replace(_key(state.read(file)), b""))
    assert ensure(state, now) == {}  # what issues nothing does without
    state.remove(LEAF)
    said = refused(state, now)
    assert f"{state.path(file)}: authority etcd: its key is missing" in said
    assert "restore it from a backup of state/" in said
    assert state.glob("pki/etcd/authority-*.pem") == (file,)  # no new one was made


def test_fault_17_the_key_of_another_authority(state: State, now: datetime) -> None:
    file, other = authority(state, "kubernetes"), authority(state, "etcd")
    state.write(file, state.read(file).replace(_key(state.read(file)), _key(state.read(other))))
    assert "authority kubernetes: its key is not the certificate's" in refused(state, now)


def test_fault_18_a_certificate_that_has_expired(state: State, now: datetime) -> None:
    later = now + timedelta(days=500)
    before = state.read(LEAF)
    made = ensure(state, later)  # no API server is asked for it
    assert made[LEAF].startswith("expired") or made[LEAF].startswith("expires")
    assert x509.load_pem_x509_certificate(state.read(LEAF)).not_valid_after_utc > later
    assert state.read(LEAF) != before
    assert ensure(state, later) == {}


def test_fault_19_an_authority_that_has_expired(state: State, now: datetime) -> None:
    said = refused(state, now + timedelta(days=3700))
    assert "authority kubernetes has expired on " in said
    assert "`./inv rotate.authority kubernetes` replaces all that have, at once" in said


def test_fault_20_an_issued_certificate_is_good_at_once_where_clocks_differ(state: State, now: datetime) -> None:
    assert x509.load_pem_x509_certificate(state.read(LEAF)).not_valid_before_utc <= now - timedelta(minutes=4)


def _key(pem: bytes) -> bytes:
    """The part of a file that is its private key."""
    found = re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n", pem, re.DOTALL)
    assert found
    return found[0]


def test_fault_27_no_api_server_answers(state: State, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a push brings is compared with nothing, and the hosts have theirs first."""

    def dial(*_: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(Cluster, "dial", dial)
    cluster = Cluster(INVENTORY, credentials(DECLARATIONS, INVENTORY, state), fleet.machines, lambda: pytest.fail("no errand"))
    assert {change.why for change in objects.survey(cluster).changes} == {objects.UNKNOWN}
    cluster.close()
    fleet.converges({**OLD, FLEETS_LEAF: b"renewed key\n"})


BAD = {
    "cluster: hardway": "cluster: hardway\nsecond: true",
    "controller-2:": "Controller_2:",
    "address: 10.240.0.13": "address: 10.240.0.11",
    "service_cidr: 10.32.0.0/24": "service_cidr: 10.200.0.0/24",
}


def test_fault_32_a_bad_inventory(tmp_path: Path) -> None:
    text = (ROOT / "inventory.yaml").read_text()
    for old, new in BAD.items():
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "inventory.yaml").write_text(text)
    with pytest.raises(Mistake) as caught:
        load(tmp_path / "inventory.yaml")  # no host is known to a run before this
    told = str(caught.value)
    for what in ("second: unknown key", '"Controller_2" is no DNS label', "10.240.0.11 is the address of", "overlaps"):
        assert what in told, told
    assert all(finding.where.split()[0].rpartition(":")[2].isdecimal() for finding in caught.value.findings), told  # each with its line


def test_fault_33_a_mistyped_key_or_flag(tmp_path: Path) -> None:
    text = (ROOT / "inventory.yaml").read_text().replace("service_cidr:", "sevice_cidr:") + "flags:\n  kube-apisever: {v: 1}\n"
    (tmp_path / "inventory.yaml").write_text(text)
    with pytest.raises(Mistake) as caught:
        load(tmp_path / "inventory.yaml")
    assert "did you mean service_cidr?" in str(caught.value)
    assert "did you mean kube-apiserver?" in str(caught.value)


ETCD = PurePosixPath("/etc/systemd/system/etcd.service")
VERSIONS = {
    ("3.7.3", "3.7.3"): "",
    ("3.7.3", "3.7.1"): "",
    ("3.7.3", "3.8.0"): "",
    ("3.7.3", "3.9.0"): "etcd 3.7.3 does not become 3.9.0 at once; take 3.8 first",
    ("3.7.3", "3.6.9"): "etcd 3.7.3 does not become 3.6.9: an older one does not read what is stored; put its version back",
    ("3.7.3", "4.0.0"): "etcd 3.7.3 does not become 4.0.0 at once",
}


@pytest.mark.parametrize(("before", "after"), VERSIONS)
def test_fault_39_a_version_that_does_not_read_what_is_there(before: str, after: str) -> None:
    expected = VERSIONS[before, after]
    texts = [f"[Unit]\nX-Version={version}\nAfter=a.target\n" for version in (before, after)]
    finding = etcd.refused(CONTROLLER, ETCD, *texts)
    assert bool(finding) is bool(expected)
    assert expected in str(finding)
    assert etcd.refused(CONTROLLER, ETCD, "[Unit]\n", texts[1]) is None  # of a kit that did not say it


# What a look at the hosts tells before anything is changed.


def findings(host: Host, fake: FakeHost, *, now: float = 0) -> list[Finding]:
    """Everything that stands against a push to this host, as it says so itself."""
    mine = installed(INVENTORY, host)
    units = tuple(component.unit for component in mine)
    began = now or time.time()
    observed = fake.machine().observe(frozenset(), units, preflight.asked(INVENTORY, mine))
    case = Case(inventory=INVENTORY, host=host, components=mine, observed=observed, asked=began, now=now or time.time())
    return [finding for finding in preflight.findings([case]) if not finding.warning]


def told(host: Host, fake: FakeHost, word: str) -> list[str]:
    return [str(finding) for finding in findings(host, fake) if word in finding.what]


def test_fault_20_clock_skew(tmp_path: Path) -> None:
    fake = FakeHost(base=tmp_path)
    assert told(CONTROLLER, fake, "clock") == []
    date = shutil.which("date")
    fake.program("date", f"#!/bin/sh\nexec {date} -d '+90 seconds' \"$@\"\n")
    (line,) = told(CONTROLLER, fake, "clock")
    assert "its clock is +90 s off ours; set it" in line
    (fake.base / "bin" / "date").unlink()
    assert told(CONTROLLER, fake, "clock") == []


def test_fault_36_a_port_in_use(tmp_path: Path) -> None:
    fake = FakeHost(base=tmp_path)
    write(fake, "/proc/net/tcp", TCP + LISTENS.format(port=2379, inode=4711))
    write(fake, "/proc/812/comm", "nc\n")
    write(fake, "/proc/812/cgroup", "0::/user.slice\n")
    fake.path("/proc/812/fd").mkdir()
    fake.path("/proc/812/fd/3").symlink_to("socket:[4711]")
    (line,) = told(CONTROLLER, fake, "port")
    assert "port 2379 of etcd is taken by nc (process 812); stop it there" in line
    fake.unit("etcd.service")  # our own daemon may hold it
    assert told(CONTROLLER, fake, "port") == []


def test_fault_37_a_kernel_that_lacks_something(tmp_path: Path) -> None:
    fake = FakeHost(base=tmp_path)
    write(fake, "/proc/sys/kernel/osrelease", "6.1.0\n")
    write(fake, "/lib/modules/6.1.0/modules.builtin", "")
    assert any("its kernel has no overlay; use a kernel that has it" in line for line in told(WORKER, fake, "overlay"))
    assert any("its kernel has no br_netfilter" in line for line in told(WORKER, fake, "br_netfilter"))
    assert any("its kernel has no net.ipv4.ip_forward" in line for line in told(WORKER, fake, "ip_forward"))
    write(fake, "/proc/sys/net/ipv4/ip_forward", "0\n")  # one that can be made is made, and nothing to tell
    write(fake, "/lib/modules/6.1.0/modules.builtin", "kernel/fs/overlayfs/overlay.ko\nkernel/net/bridge/br_netfilter.ko\n")
    assert [line for word in ("overlay", "br_netfilter", "ip_forward") for line in told(WORKER, fake, word)] == []


def test_fault_38_swap_and_old_control_groups(tmp_path: Path) -> None:
    fake = FakeHost(base=tmp_path)
    write(fake, "/proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 999420 0 -2\n")
    (line,) = told(WORKER, fake, "swap")
    assert "swap is on (/dev/sda2), and kubelet does not start with it; run there: swapoff -a" in line
    assert told(CONTROLLER, fake, "swap") == []
    write(fake, "/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t6\t1\n")
    assert any("control groups without " in line for line in told(WORKER, fake, "control groups"))
    write(fake, "/proc/swaps", "Filename Type Size Used Priority\n")
    assert told(WORKER, fake, "swap") == []


def test_fault_40_names_that_do_not_lead_anywhere(tmp_path: Path) -> None:
    named = replace(INVENTORY, endpoint=replace(INVENTORY.endpoint, name="api.hardway.invalid"))
    fake = FakeHost(base=tmp_path)

    def look() -> list[str]:
        mine = installed(named, WORKER)
        observed = fake.machine().observe(frozenset(), (), preflight.asked(named, mine))
        case = Case(inventory=named, host=WORKER, components=mine, observed=observed, asked=time.time(), now=time.time())
        return [str(finding) for finding in preflight.findings([case]) if "api.hardway.invalid" in finding.what]

    (line,) = look()
    assert "it does not resolve the endpoint api.hardway.invalid; add there to /etc/hosts: 10.240.0.10 api.hardway.invalid" in line
    write(fake, "/etc/hosts", "10.240.0.10 api.hardway.invalid\n")
    assert look() == []
    # The name and the address of the endpoint are in the API servers' certificates by construction.
    wanted = {sans for request in requests(DECLARATIONS, named) if request.certificate == "kube-apiserver" for sans in request.sans}
    assert {"DNS:api.hardway.invalid", "IP:10.240.0.10"} <= set(map(str, wanted))
