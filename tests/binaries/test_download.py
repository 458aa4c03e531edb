"""Downloads from a release site, good and bad."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hardway.errors import Mistake
from tests.binaries.release_site import ETCD, KUBE, Operator, ReleaseSite

PATH = f"{KUBE}/kubectl"
CACHED = ["kubernetes/1.37.2/amd64/release/kubectl", "kubernetes/1.37.2/amd64/release/kubectl.json"]


def test_a_program_comes_from_the_release_site_once(operator: Operator, release_site: ReleaseSite, kubectl: bytes) -> None:
    brought = operator.bring("kubectl")["kubectl"]

    assert brought.path.read_bytes() == kubectl
    assert brought.path.stat().st_mode & 0o777 == 0o755
    assert (brought.version, brought.arch, brought.size) == ("1.37.2", "amd64", len(kubectl))
    assert brought.sha256 == hashlib.sha256(kubectl).hexdigest()
    assert brought.source == f"{release_site.url}{PATH}"
    assert operator.left() == CACHED

    release_site.requests.clear()
    again = operator.bring("kubectl")["kubectl"]

    assert again.source == "local cache"
    assert (again.sha256, again.path, again.origin) == (brought.sha256, brought.path, brought.source)
    assert release_site.requests == []


def test_one_archive_brings_all_programs_in_it(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.publish_etcd({"etcd": b"server", "etcdctl": b"client", "etcdutl": b"tool"})

    assert operator.bring("etcdctl")["etcdctl"].path.read_bytes() == b"client"
    rest = operator.bring("etcd", "etcdutl")

    assert {name: (binary.source, binary.path.read_bytes()) for name, binary in rest.items()} == {
        "etcd": ("local cache", b"server"),
        "etcdutl": ("local cache", b"tool"),
    }
    assert len(release_site.asked(f"{ETCD}/etcd-v3.7.3-linux-amd64.tar.gz")) == 1


def test_a_cut_goes_on_where_it_was(operator: Operator, release_site: ReleaseSite, kubectl: bytes) -> None:
    release_site.cuts[PATH] = [1_000_000]

    assert operator.bring("kubectl")["kubectl"].path.read_bytes() == kubectl
    assert release_site.asked(PATH) == [None, "bytes=1000000-"]


def test_a_body_that_stays_truncated_is_refused_and_a_later_run_goes_on(
    operator: Operator, release_site: ReleaseSite, kubectl: bytes
) -> None:
    release_site.cuts[PATH] = [1_000_000, 500_000]

    with pytest.raises(Mistake, match=r"kubectl: cut 2 times.*goes on from there"):
        operator.bring("kubectl")

    assert not any("release" in path for path in operator.left())
    assert operator.bring("kubectl")["kubectl"].path.read_bytes() == kubectl
    assert release_site.asked(PATH)[-1] == "bytes=1500000-"
    assert operator.left() == CACHED


def test_a_site_without_ranges_starts_again(operator: Operator, release_site: ReleaseSite, kubectl: bytes) -> None:
    release_site.ranges = False
    release_site.cuts[PATH] = [1_000_000]

    assert operator.bring("kubectl")["kubectl"].path.read_bytes() == kubectl


@pytest.mark.usefixtures("kubectl")
def test_a_stalled_transfer_is_given_up(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.stalls.add(PATH)
    operator.read = 0.2

    with pytest.raises(Mistake, match=r"kubectl: cut 2 times"):
        operator.bring("kubectl")

    assert not any("release" in path for path in operator.left())


def test_a_wrong_digest_is_refused_and_nothing_is_left(operator: Operator, release_site: ReleaseSite, kubectl: bytes) -> None:
    release_site.files[PATH] = kubectl[:-1] + b"!"

    with pytest.raises(Mistake, match=rf"has SHA-256 .*, not {hashlib.sha256(kubectl).hexdigest()} as published in"):
        operator.bring("kubectl")

    assert operator.left() == []
    assert not operator.pins.exists()


@pytest.mark.usefixtures("kubectl")
def test_a_wrong_digest_never_leads_to_a_build(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.files[PATH] = b"another program"

    with pytest.raises(Mistake, match="SHA-256"):
        operator.bring("kubectl", inventory=operator.inventory(source="auto"))

    assert not any("building" in line for line in operator.told)


@pytest.mark.usefixtures("kubectl")
def test_a_file_that_is_not_there_is_refused(operator: Operator, release_site: ReleaseSite) -> None:
    del release_site.files[PATH]

    with pytest.raises(Mistake, match=r"kubectl: is not there \(404\); check the version"):
        operator.bring("kubectl")

    assert operator.left() == []


@pytest.mark.usefixtures("kubectl")
def test_a_missing_checksum_file_is_refused(operator: Operator, release_site: ReleaseSite) -> None:
    del release_site.files[f"{PATH}.sha256"]

    with pytest.raises(Mistake, match=r"kubectl.sha256: is not there \(404\)"):
        operator.bring("kubectl")

    assert (operator.left(), release_site.asked(PATH)) == ([], [])


@pytest.mark.usefixtures("kubectl")
def test_a_page_instead_of_checksums_is_refused(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.files[f"{PATH}.sha256"] = b"<html>please log in</html>"

    with pytest.raises(Mistake, match="no line of a SHA-256 checksum file"):
        operator.bring("kubectl")


def test_a_checksum_file_without_the_program_is_refused(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.files[f"{ETCD}/SHA256SUMS"] = f"{'0' * 64}  etcd-v3.7.3-linux-riscv64.tar.gz\n".encode()

    with pytest.raises(Mistake, match=r"has no digest of etcd-v3\.7\.3-linux-amd64\.tar\.gz"):
        operator.bring("etcd")


@pytest.mark.parametrize(("cut", "programs"), [(40, {"etcd": b"x" * 1000}), (None, {"etcd": b"x"})])
def test_an_archive_that_is_broken_or_incomplete_is_refused(
    operator: Operator, release_site: ReleaseSite, cut: int | None, programs: dict[str, bytes]
) -> None:
    release_site.publish_etcd(programs, cut=cut)

    with pytest.raises(Mistake, match=r"broken archive|not found"):
        operator.bring("etcd")

    assert operator.left() == []
    assert not operator.pins.exists()


def test_an_unreachable_site_ends_a_download(operator: Operator) -> None:
    operator.mirror = "http://127.0.0.1:9"

    with pytest.raises(Mistake, match=r"127\.0\.0\.1:9/dl\.k8s\.io/.* cannot be reached; set binaries\.mirror"):
        operator.bring("kubectl", inventory=operator.inventory(source="download"))


@pytest.mark.usefixtures("no_go")
def test_an_unreachable_site_leads_to_a_build_and_says_so(operator: Operator) -> None:
    operator.mirror = "http://127.0.0.1:9"

    with pytest.raises(Mistake, match=r"^go: go: not found; a build from Go modules needs Go 1\.26 or later"):
        operator.bring("kubectl")

    assert [line for line in operator.told if "no release site can be reached" in line and "building from Go modules instead" in line]


@pytest.mark.usefixtures("no_go")
def test_a_proxy_that_refuses_counts_as_unreachable(operator: Operator, release_site: ReleaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", release_site.url)
    operator.mirror = "https://mirror.invalid"

    with pytest.raises(Mistake, match=r"^go: "):
        operator.bring("kubectl")

    assert release_site.asked("mirror.invalid:443")
    assert any("no release site can be reached" in line for line in operator.told)


@pytest.mark.usefixtures("kubectl")
def test_a_site_in_trouble_is_a_mistake_not_a_build(operator: Operator, release_site: ReleaseSite) -> None:
    release_site.statuses[PATH] = 503

    with pytest.raises(Mistake, match=r"kubectl: the site answered 503 .*; try again later"):
        operator.bring("kubectl")

    assert not any("building" in line for line in operator.told)


@pytest.mark.usefixtures("no_go")
def test_a_site_that_accepts_and_says_nothing_counts_as_unreachable(operator: Operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        operator.mirror = f"https://127.0.0.1:{silent.getsockname()[1]}"
        operator.connect = 0.2

        with pytest.raises(Mistake, match=r"^go: "):
            operator.bring("kubectl")

    assert any("no release site can be reached" in line for line in operator.told)


@pytest.mark.usefixtures("no_go")
def test_a_certificate_that_is_not_trusted_never_leads_to_a_build(operator: Operator, release_site: ReleaseSite) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(operator.home))
    release_site.secure(context)
    operator.mirror = release_site.url

    with pytest.raises(Mistake, match=r"its certificate is not trusted: .*; name the CA in SSL_CERT_FILE"):
        operator.bring("kubectl")

    assert not any("building" in line for line in operator.told)


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody knows, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mirror")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(hours=1))
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
    pem = folder / "mirror.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(certificate.sign(key, hashes.SHA256()).public_bytes(plain[0]) + key.private_bytes(*plain))
    return pem


def test_a_mirror_that_is_no_url_is_a_mistake(operator: Operator) -> None:
    operator.mirror = "ftp://mirror.invalid"

    with pytest.raises(Mistake, match=r"check binaries\.mirror"):
        operator.bring("kubectl")


def test_a_killed_run_is_gone_on_with(operator: Operator, release_site: ReleaseSite, kubectl: bytes) -> None:
    release_site.stalls.add(PATH)
    program = (
        "import sys; from pathlib import Path; from tests.binaries.release_site import Operator;"
        "Operator(home=Path(sys.argv[1]), mirror=sys.argv[2], upstream=Path(sys.argv[3])).bring('kubectl')"
    )
    argv = [sys.executable, "-c", program, str(operator.home), operator.mirror, str(operator.upstream)]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."}) as child:
        assert release_site.stalled.wait(20)
        partial = operator.cache / "kubernetes/1.37.2/amd64/partial"
        assert _appears(partial, child)
        child.send_signal(signal.SIGKILL)
        child.wait()
    release_site.stalls.clear()
    release_site.go_on.set()

    assert operator.bring("kubectl")["kubectl"].path.read_bytes() == kubectl
    assert str(release_site.asked(PATH)[-1]).startswith("bytes=")
    assert operator.left() == CACHED


def _appears(folder: Path, child: subprocess.Popen[bytes]) -> bool:
    """Wait until something has been written into a folder."""
    while child.poll() is None:
        if any(path.stat().st_size for path in folder.glob("*")):
            return True
        signal.sigtimedwait([], 0.01)
    return False


@pytest.mark.usefixtures("kubectl")
def test_what_was_downloaded_at_first_use_is_pinned_and_compared(operator: Operator, release_site: ReleaseSite) -> None:
    name = PATH.removeprefix("/")
    brought = operator.bring("kubectl")["kubectl"]

    assert any("first use, not pinned" in line for line in operator.told)
    assert json.loads(operator.pins.read_text()) == {"schema": 1, "sha256": {name: brought.sha256}}

    release_site.publish(PATH, b"another program")
    brought.path.with_name("kubectl.json").unlink()
    with pytest.raises(Mistake, match=rf"not {brought.sha256} as pinned in .*pins\.json"):
        operator.bring("kubectl")

    assert operator.left() == ["kubernetes/1.37.2/amd64/release/kubectl"]


@pytest.mark.usefixtures("kubectl")
def test_a_cached_download_is_not_used_where_another_one_is_committed(operator: Operator, release_site: ReleaseSite) -> None:
    operator.bring("kubectl")
    committed = b"what was committed"
    sums = operator.upstream / "kubernetes" / "SHA256SUMS"
    sums.write_text(f"{hashlib.sha256(committed).hexdigest()}  {PATH.removeprefix('/')}\n")

    with pytest.raises(Mistake, match="as committed in"):
        operator.bring("kubectl")

    release_site.files[PATH] = committed
    assert operator.bring("kubectl")["kubectl"].path.read_bytes() == committed


def test_required_pins_refuse_first_use_and_take_a_committed_digest(operator: Operator, release_site: ReleaseSite, kubectl: bytes) -> None:
    strict = operator.inventory(pins="required")

    with pytest.raises(Mistake, match=r"pins: required; run \./inv binaries --lock"):
        operator.bring("kubectl", inventory=strict)
    assert (operator.left(), release_site.requests) == ([], [])

    sums = operator.upstream / "kubernetes" / "SHA256SUMS"
    sums.write_text(f"{hashlib.sha256(kubectl).hexdigest()}  {PATH.removeprefix('/')}\n")
    operator.bring("kubectl", inventory=strict)

    assert release_site.asked(f"{PATH}.sha256") == []
    assert not any("first use" in line for line in operator.told)


@pytest.mark.usefixtures("kubectl")
def test_required_pins_refuse_what_another_cluster_cached(operator: Operator) -> None:
    operator.bring("kubectl")
    operator.pins.unlink()

    with pytest.raises(Mistake, match="pins: required"):
        operator.bring("kubectl", inventory=operator.inventory(pins="required"))


@pytest.mark.usefixtures("kubectl")
def test_pins_that_cannot_be_read_are_a_mistake(operator: Operator) -> None:
    operator.pins.parent.mkdir()
    operator.pins.write_text('{"schema": 1}')

    with pytest.raises(Mistake, match=r"pins\.json: cannot be read as pins"):
        operator.bring("kubectl")
