"""Certificates: every port shows the one that lies on its host and in state/, of the authority that signs now, and not near its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath

from hardway.components import installed
from hardway.desired import Check, Component, Serving, Stage
from hardway.errors import Mistake
from hardway.inventory import Host
from hardway.pki import declared
from hardway.pki.issue import WINDOW
from hardway.pki.pair import Pair
from hardway.render import ROOT
from hardway.smoke.verdict import Failed, Journal, expecting

END = "-----END CERTIFICATE-----"
# Of each file the certificate, never the key that is behind it.
CERTIFICATES = "for file; do sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p; /END CERTIFICATE/q' \"$file\"; done"

Declared = Mapping[str, tuple[str, PurePosixPath]]  # authority and path, by certificate


def served(stage: Stage) -> str:
    """Connect to every port that shows a certificate, and read what lies on its host."""
    known = {
        name: (authority.authority, one.path)
        for authority in declared.load(ROOT / "certs").authorities
        for name, one in authority.certificates.items()
        if one.path
    }
    return "\n".join(line for host in stage.inventory.hosts for line in _on(stage, host, known))


def _on(stage: Stage, host: Host, known: Declared) -> Iterator[str]:
    servings = [(component, serving) for component in installed(stage.inventory, host) for serving in component.serves]
    if not servings:
        return
    with expecting(f"the certificates of {host.name} to be read"):
        paths = [str(known[serving.certificate][1]) for _, serving in servings]
        texts = stage.run(host, "sh", "-c", CERTIFICATES, "sh", *paths).split(END)[:-1]
        if len(texts) != len(paths):
            raise Mistake.at(host.name, f"{len(texts)} certificates are in {len(paths)} files")
        there = [Pair.parse(f"{text.strip()}\n{END}\n".encode()) for text in texts]
    for (component, serving), pair in zip(servings, there, strict=True):
        yield _shows(stage, host, component, serving, pair, stage.signer(known[serving.certificate][0]))


def _shows(stage: Stage, host: Host, component: Component, serving: Serving, there: Pair, signer: str) -> str:
    where, look = f"port {serving.port} of {host.name}", Journal(host, component.unit)
    with expecting(f"{where} to show a certificate", look):
        shown = stage.shown(host, serving.port, loopback=serving.loopback)
    lies, issued = there.certificate.serial_number, stage.issued(serving.certificate, host)
    if shown.serial != lies:
        raise Failed(f"{where} to show the certificate {lies:x}, which lies on the host", f"{shown.serial:x} of {shown.issuer}", look)
    if lies != issued:
        raise Failed(f"{serving.certificate} on {host.name} to be {issued:x}, as in state/", f"{lies:x}; `./inv push` brings it")
    if shown.issuer != signer:
        raise Failed(f"{where} to show a certificate of {signer}, which signs now", f"one of {shown.issuer}")
    if there.ends(datetime.now(UTC), WINDOW):
        raise Failed(f"{where} to show a certificate that is not near its end", f"one that ends on {shown.not_after:%Y-%m-%d %H:%M} UTC")
    return f"{where}: {serving.certificate} {shown.serial:x}, of {shown.issuer}, until {shown.not_after:%Y-%m-%d}, as on disk and in state/"


CHECKS = (
    Check(
        name="certs.served",
        component="cluster",
        proves="every port shows the certificate that is on disk, of the authority that signs now, with time left",
        run=served,
        needs=frozenset({"hosts"}),
        sabotage="a certificate in its last days lies on a host; a port shows another one than lies there",
        last=True,  # to etcd.ports it would be a stranger on 2380
    ),
)
