"""A release site of the projects' layouts on loopback, and an operator who uses it as the mirror."""

from __future__ import annotations

import hashlib
import io
import ssl
import tarfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal

from hardway.binaries import Binary, Site, fetch
from hardway.binaries.upstream import Project
from hardway.inventory import Inventory
from hardway.inventory.values import Binaries, Endpoint, Networks, Versions

KUBE = "/dl.k8s.io/v1.37.2/bin/linux/amd64"
ETCD = "/github.com/etcd-io/etcd/releases/download/v3.7.3"


@dataclass
class ReleaseSite:
    """Serves files with Range; can be told to misbehave."""

    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range
    cuts: dict[str, list[int]] = field(default_factory=dict)  # path -> bytes sent of each of the next bodies
    stalls: set[str] = field(default_factory=set)  # paths that send half of the body and then nothing
    statuses: dict[str, int] = field(default_factory=dict)  # path -> another status than 200
    ranges: bool = True
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    server: ThreadingHTTPServer | None = None

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        assert self.server
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def asked(self, path: str) -> list[str | None]:
        """The Range of each request for a path."""
        return [wanted for asked, wanted in self.requests if asked == path]

    def publish(self, path: str, content: bytes) -> None:
        """A file and its checksum file, as dl.k8s.io has them."""
        self.files |= {path: content, f"{path}.sha256": hashlib.sha256(content).hexdigest().encode()}

    def publish_etcd(self, programs: dict[str, bytes], *, cut: int | None = None) -> None:
        """The archive and SHA256SUMS, as etcd's releases have them."""
        archive = packed({f"etcd-v3.7.3-linux-amd64/{name}": content for name, content in programs.items()})[:cut]
        sums = {"etcd-v3.7.3-linux-amd64.tar.gz": hashlib.sha256(archive).hexdigest(), "etcd-v3.7.3-linux-arm64.tar.gz": "0" * 64}
        self.files[f"{ETCD}/etcd-v3.7.3-linux-amd64.tar.gz"] = archive
        self.files[f"{ETCD}/SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()

    def publish_release(self, project: Project, arch: str) -> None:
        """All files of a project's release and their digests; each program is its name and architecture."""
        version = getattr(Versions(), project.name)
        programs = {program: f"{program} {arch}".encode() for program in project.programs if program not in project.unreleased}
        for file in project.release_files(version, arch):
            if member := project.release.member:
                content = packed({member.format(program=name, version=version, arch=arch): body for name, body in programs.items()})
            else:
                content = next(body for name, body in programs.items() if project.release_file(name, version, arch) == file)
            self.files[f"/{file}"] = content
            if project.release.digests:
                name = file.rpartition("/")[2]
                sums = f"/{project.release.digests.format(version=version, arch=arch, file=name)}"
                self.files[sums] = self.files.get(sums, b"") + f"{hashlib.sha256(content).hexdigest()} *{name}\n".encode()


def packed(members: dict[str, bytes]) -> bytes:
    """A .tar.gz."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    site: ReleaseSite

    def do_GET(self) -> None:
        site = self.site
        wanted = self.headers.get("Range")
        site.requests.append((self.path, wanted))
        body = site.files.get(self.path)
        if body is None or self.path in site.statuses:
            self.send_error(site.statuses.get(self.path, 404))
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
        if start >= len(body) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cuts = site.cuts.get(self.path)
        if self.path in site.stalls:
            self.wfile.write(body[start : start + (len(body) - start) // 2])
            site.stalled.set()
            site.go_on.wait(30)
            self.close_connection = True
        elif cuts:
            self.wfile.write(body[start : start + cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body[start:])

    def do_CONNECT(self) -> None:
        self.site.requests.append((self.path, None))
        self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of the tests."""


@dataclass
class Operator:
    """One machine's cache, a cluster's pins, and what was told."""

    home: Path
    mirror: str
    upstream: Path
    connect: float = 2.0
    read: float = 10.0
    attempts: int = 2
    told: list[str] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def pins(self) -> Path:
        return self.home / "state" / "pins.json"

    def inventory(
        self,
        source: Literal["auto", "download", "build"] = "auto",
        pins: Literal["first-use", "required"] = "first-use",
        versions: Versions | None = None,
    ) -> Inventory:
        return Inventory(
            cluster="test",
            hosts=(),
            networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16")),
            endpoint=Endpoint(loadbalancer="none", address=IPv4Address("10.0.0.1")),
            versions=versions or Versions(),
            binaries=Binaries(source=source, mirror=self.mirror, pins=pins),
        )

    @property
    def site(self) -> Site:
        return Site(mirror=self.mirror, connect=self.connect, read=self.read, attempts=self.attempts, pause=0.0)

    def bring(self, *programs: str, inventory: Inventory | None = None, arch: str = "amd64") -> dict[str, Binary]:
        wanted = inventory or self.inventory()
        return fetch(programs, arch, wanted, self.cache, self.told.append, pins=self.pins, site=self.site, folder=self.upstream)

    def left(self) -> list[str]:
        """Every file in the cache but the locks."""
        return sorted(str(path.relative_to(self.cache)) for path in self.cache.rglob("*") if path.is_file() and path.name != "lock")
