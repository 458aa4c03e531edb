"""Of a file with a certificate and its key, a host tells the certificate."""

from __future__ import annotations

from base64 import b64decode
from pathlib import PurePosixPath

import pytest

from hardway.observed import Asked
from tests.remote.fakehost import FakeHost

PATH = PurePosixPath("/var/lib/x/current.pem")
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nQ0VS\nVA==\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nQ0FOQVJZ\n-----END PRIVATE KEY-----\n"  # CANARY


def told(host: FakeHost, shell: str, text: str | None) -> dict[PurePosixPath, bytes]:
    there = host.path(PATH)
    there.parent.mkdir(parents=True, exist_ok=True)
    if text is not None:
        there.write_text(text)
    machine = host.machine(shell)
    seen = machine.observe(frozenset(), (), Asked(certificates=(PATH,)))
    assert machine.execs == 1
    assert "Q0FOQVJZ" not in repr(seen)
    assert b"CANARY" not in b"".join(seen.certificates.values())
    return dict(seen.certificates)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
@pytest.mark.parametrize("text", [CERTIFICATE + KEY, KEY + CERTIFICATE, CERTIFICATE, CERTIFICATE + CERTIFICATE + KEY])
def test_the_first_certificate_is_told_and_never_the_key(host: FakeHost, shell: str, text: str) -> None:
    assert told(host, shell, text) == {PATH: b64decode("Q0VSVA==")}


@pytest.mark.parametrize("text", [None, "", KEY, "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_not_told(host: FakeHost, text: str | None) -> None:
    assert told(host, "dash", text) == {}
