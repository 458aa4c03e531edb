"""As whom the clients come and whom they trust: a kubeconfig, read again whenever it or a file that it names has changed."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hardway.desired import Secret
from hardway.errors import Mistake
from hardway.pki import tls

LOOK = 0.2  # seconds between two looks at the files
PROTOCOLS = {"http/1.1": "http/1.1", "http/2": "h2"}  # by ALPN's names for them

View = Callable[[], Mapping[str, Any]]  # the kubeconfig of one cluster and one user


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What one state of the files says. A connection belongs to one, and is left when there is a newer."""

    number: int
    address: tuple[str, int]
    host: str  # of the URL: what requests name
    prefix: str  # of every path
    name: str  # that the server's certificate must have
    contexts: Mapping[str, ssl.SSLContext] = field(repr=False)  # by protocol
    headers: Mapping[str, str] = field(repr=False)


class Identities:
    """The newest identity. May be asked by several threads."""

    def __init__(self, kubeconfig: Path, view: View) -> None:
        self._kubeconfig = kubeconfig
        self._view = view
        self._reading = threading.Lock()
        self._stamps: dict[Path, object] = {}
        self._looked = 0.0
        self._now = self._read(1)

    def now(self) -> Identity:
        """The newest; while the files are being changed the one before them."""
        if time.monotonic() - self._looked >= LOOK and self._reading.acquire(blocking=False):
            try:
                self._looked = time.monotonic()
                if any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
                    self._now = self._read(self._now.number + 1)
            except (Mistake, OSError):
                self._stamps[self._kubeconfig] = None  # half of it is there: look again
            finally:
                self._reading.release()
        return self._now

    def _read(self, number: int) -> Identity:
        stamps: dict[Path, object] = {self._kubeconfig: _stamp(self._kubeconfig)}
        document = self._view()
        try:
            (cluster,), (user,) = document["clusters"], document["users"]
        except (KeyError, TypeError, ValueError):
            raise Mistake.at(str(self._kubeconfig), "it has no current context with a cluster and a user") from None
        there, who = cluster["cluster"], user["user"]
        for key, where in (("exec", who), ("auth-provider", who), ("insecure-skip-tls-verify", there), ("proxy-url", there)):
            if where.get(key):
                raise Mistake.at(str(self._kubeconfig), f"traffic cannot use its `{key}`", "name one with a certificate or a token")

        def content(where: Mapping[str, Any], name: str) -> bytes:
            if data := where.get(f"{name}-data"):
                return base64.b64decode(str(data))
            if not (named := where.get(name)):
                return b""
            path = self._kubeconfig.parent / str(named)
            stamps[path] = _stamp(path)
            return path.read_bytes()

        trusted = content(there, "certificate-authority").decode()
        certificate, private = content(who, "client-certificate"), content(who, "client-key")
        token = who.get("token") or content({"token": who.get("tokenFile")}, "token").decode().strip()
        pair = Secret(certificate if certificate == private else certificate + b"\n" + private) if certificate else None
        url = urlsplit(there["server"])
        identity = Identity(
            number=number,
            address=(url.hostname or "localhost", url.port or 443),
            host=url.netloc,
            prefix=url.path.rstrip("/"),
            name=there.get("tls-server-name") or url.hostname or "localhost",
            contexts={protocol: _context(trusted, pair, alpn) for protocol, alpn in PROTOCOLS.items()},
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        self._stamps = stamps
        return identity


def viewed(kubectl: Path, kubeconfig: Path, context: str = "") -> View:
    """A kubeconfig as kubectl reads it."""
    argv = [str(kubectl), f"--kubeconfig={kubeconfig}", *([f"--context={context}"] if context else [])]

    def view() -> Mapping[str, Any]:
        done = subprocess.run([*argv, "config", "view", "--raw", "--minify", "--output=json"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Mistake.at(str(kubeconfig), done.stderr.strip().removeprefix("error: ") or "kubectl cannot read it")
        document: Mapping[str, Any] = json.loads(done.stdout)
        return document

    return view


def _context(trusted: str, pair: Secret | None, alpn: str) -> ssl.SSLContext:
    try:
        context = tls.client(trusted=trusted, pair=pair)
    except ssl.SSLError as error:
        raise Mistake.at("kubeconfig", f"its authority cannot be used for TLS: {error.reason or 'unreadable'}") from None
    context.set_alpn_protocols([alpn])
    return context


def _stamp(path: Path) -> object:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
