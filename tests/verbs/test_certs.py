"""What the verbs of certificates refuse, write and print; without any host."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tasks
from hardway import inventory as reading
from hardway.errors import Mistake
from hardway.pki import declared, issue
from hardway.state import State
from hardway.verbs.kubeconfig import _create
from hardway.verbs.program.cli import Cli
from hardway.verbs.program.duration import duration

ROOT = Path(__file__).parents[2]


def own_address() -> str:
    """An address of this machine that is not loopback, which no inventory may name; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine is in no network")
        return str(asking.getsockname()[0])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An inventory of one host, at which nobody answers, with everything issued long enough ago."""
    cluster, address = f"certs-{datetime.now(UTC):%H%M%S%f}", own_address()
    path = tmp_path_factory.mktemp("inventory") / "inventory.yaml"
    path.write_text(
        f"cluster: {cluster}\n"
        "networks: {service_cidr: 10.32.0.0/24, pod_cidr: 10.200.0.0/16}\n"
        f"endpoint: {{loadbalancer: none, address: {address}, port: 6443}}\n"
        "ssh: {port: 1}\n"
        f"hosts: {{controller-1: {{address: {address}, roles: [controller]}}}}\n"
    )
    state = State(ROOT / "state" / cluster)
    try:
        issue.ensure(declared.load(ROOT / "certs"), reading.load(path), state, datetime.now(UTC) - timedelta(days=200))
        yield path
    finally:
        shutil.rmtree(state.root, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a verb ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Inv = Callable[..., Done]


@pytest.fixture
def inv(path: Path, capsys: pytest.CaptureFixture[str]) -> Inv:
    """Run `./inv` in this process: the engine is imported once."""

    def run(*words: str) -> Done:
        code = Cli(tasks.CONTENTS, version="test")._outcome(["inv", "--inventory", str(path), *words])
        said = capsys.readouterr()
        return Done(returncode=code, stdout=said.out, stderr=said.err)

    return run


def test_hosts_that_are_nowhere_are_said_to_be_and_what_state_has_is_shown(inv: Inv, path: Path, tmp_path: Path) -> None:
    done = inv("certs", "--prometheus", str(tmp_path / "x.prom"))

    first, *lines = done.stdout.splitlines()
    assert first.startswith(reading.load(path).cluster)
    assert ": 1 wrong, 1 not found out; " in first
    assert first.endswith("in 164 days")
    assert "  wrong: kubeconfig admin.kubeconfig: missing; `./inv push` writes it" in lines
    assert [line for line in lines if line.startswith("  unknown: controller-1: not asked: ")]
    (row,) = (line for line in lines if line.startswith("kube-apiserver ") and "not asked" in line)
    assert "kube-apiserver (watch)" in row
    assert row.endswith("controller-1")
    (names,) = (line for line in lines if line.startswith("etcd-peer ") and "{address}" in line)
    assert "CN={host}" in names
    assert " /etc/etcd/pki/peer.pem " in names
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "hardway_certificates_unknown{" in (tmp_path / "x.prom").read_text()


def test_the_page_is_replaced_whole_and_may_be_read_by_all(inv: Inv, path: Path, tmp_path: Path) -> None:
    state = State(ROOT / "state" / reading.load(path).cluster)
    state.write("rotations/2026-11-28T12-00-00Z-etcd.json", b"garbage")
    page = tmp_path / "certs.html"
    page.write_text("old")

    with page.open() as reader:
        done = inv("certs", "--html", str(page))

        assert reader.read() == "old"
    assert done.returncode == 1
    assert "2026-11-28T12-00-00Z-etcd.json: is no record of a rotation" in done.stderr
    assert all(word in page.read_text() for word in ("etcd-peer", "kubeconfig admin.kubeconfig: missing", "</html>"))
    assert page.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["certs.html"]


def test_a_page_in_a_directory_that_is_not_there_is_an_error_in_one_line(inv: Inv, tmp_path: Path) -> None:
    done = inv("certs", "--html", str(tmp_path / "none" / "certs.html"))

    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "certs.html: cannot be written: No such file or directory; name a file in a directory that is there" in line
    assert "Traceback" not in done.stderr


def test_json_is_alone_on_standard_output_and_the_number_of_days_is_taken_by_the_letter(inv: Inv) -> None:
    done = inv("certs", "--json", "-", "--warn-days", "165")

    found = json.loads(done.stdout)
    assert found["warn_days"] == 165
    assert len(found["wrong"]) == 11 + 2 + 1
    assert done.returncode == 1


def test_a_state_that_is_not_whole_asks_no_host_and_is_shown(inv: Inv, path: Path) -> None:
    state = State(ROOT / "state" / reading.load(path).cluster)
    lost = state.path("pki/kubernetes/kube-scheduler@controller-1.pem")
    kept = lost.read_bytes()
    lost.unlink()
    try:
        done = inv("certs")
    finally:
        state.write("pki/kubernetes/kube-scheduler@controller-1.pem", kept)

    assert "wrong: certificate kube-scheduler on controller-1: missing" in done.stdout
    assert "unknown: controller-1: not asked: " in done.stdout
    assert done.returncode == 1


def test_a_renewal_that_reaches_no_host_says_so_and_has_issued(inv: Inv, path: Path) -> None:
    state = State(ROOT / "state" / reading.load(path).cluster)
    before = state.read("pki/etcd/etcd-peer@controller-1.pem")

    done = inv("certs.renew", "--name", "etcd-peer", "--hosts", "controller-1")

    assert done.returncode == 1
    assert "issued etcd-peer: asked for" in done.stderr
    assert "error: controller-1: cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert state.read("pki/etcd/etcd-peer@controller-1.pem") != before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("certs", "--warn-days", "soon"), "--warn-days: 'soon' is no number"),
        (("certs.renew", "--all", "--name", "admin"), "certs.renew: choose one of --within, --name with or without --hosts, --all"),
        (("certs.renew", "--hosts", "controller-1"), "certs.renew: choose one of"),
        (("certs.renew", "--within", "30"), "--within: '30' is no time; write --within 30d, or 12h, or 90m"),
        (("certs.renew", "--name", "etcd-pier"), "--name: there is no etcd-pier; did you mean etcd-peer?"),
        (("certs.renew", "--name", "etcd-peer", "--hosts", "lb-1"), "--hosts: lb-1 means no host of the inventory; it has controller-1"),
        (("kubeconfig",), "--user: a name is missing; write --user NAME"),
        (("kubeconfig", "--user", "jane", "--out", "jane.pem"), "--out: jane.pem is where the certificate would go"),
        (("kubeconfig", "--user", "jane", "--out", "-"), "--out: - is one file, and without --embed there are three"),
        (("kubeconfig", "--user", "jane", "--group", "system:masters", "--embed", "--out", "-"), "kubeconfig: system:masters: names that"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(inv: Inv, words: tuple[str, ...], line: str) -> None:
    done = inv(*words)

    assert done.returncode == 1
    assert next(text for text in done.stderr.splitlines() if text.startswith("error: ")).startswith(f"error: {line}")
    assert done.stdout == ""


def test_a_kubeconfig_is_its_owners_alone_and_never_written_over_another_file(
    inv: Inv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = inv("kubeconfig", "--user", "jane", "--for", "2h")

    assert done.returncode == 0
    assert {(one.name, one.stat().st_mode & 0o777) for one in tmp_path.iterdir()} == {
        (name, 0o600) for name in ("jane.kubeconfig", "jane.pem", "jane.ca.crt")
    }
    assert "jane.kubeconfig: jane until " in done.stderr
    assert "what it allows is not known now: " in done.stderr
    again = inv("kubeconfig", "--user", "jane")
    assert (again.returncode, "error: jane.kubeconfig: is there already" in again.stderr) == (1, True)


def test_a_file_that_cannot_be_made_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="cannot be written"):
        _create({tmp_path / "none" / "x": b""})


@pytest.mark.parametrize(("text", "minutes"), [("30d", 43200), ("8h", 480), ("90m", 90)])
def test_a_time_is_days_hours_or_minutes(text: str, minutes: int) -> None:
    assert duration("--for", text) == timedelta(minutes=minutes)
