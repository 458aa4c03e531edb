"""Downloads of release files: resumed after a cut, refused if they are not what they must be."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from hardway.binaries.cache import digest
from hardway.binaries.digests import Known, parse
from hardway.binaries.site import Site, Unreachable
from hardway.binaries.upstream import Project
from hardway.errors import Mistake

CUT = (httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.ConnectError, httpx2.ConnectTimeout)
UNREACHABLE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


@dataclass(frozen=True, slots=True)
class Downloads:
    """An open client of a release site; one for a run, for a client takes 40 ms to make."""

    site: Site
    client: httpx2.Client

    @classmethod
    @contextmanager
    def of(cls, site: Site) -> Iterator[Downloads]:
        """The client as long as the context lasts."""
        timeout = httpx2.Timeout(site.read, connect=site.connect)
        with httpx2.Client(timeout=timeout, follow_redirects=True) as client:
            yield cls(site, client)

    def text(self, file: str) -> str:
        """A small file, such as one of checksums."""
        url = self.site.url(file)
        for attempt in range(1, self.site.attempts + 1):
            try:
                answer = self.client.get(url)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                _judge(self.site, error, url, attempt, begun=attempt > 1)
            else:
                _accept(answer, url)
                return answer.text
        raise AssertionError(url)  # _judge raises at the last attempt

    def file(self, file: str, known: Known, partial: Path, tell: Callable[[str], None]) -> Path:
        """A whole file in the folder `partial`, with the known digest; after a cut it goes on, also in a later run."""
        url = self.site.url(file)
        partial.mkdir(parents=True, exist_ok=True)
        # Named by the digest too: what is left of another release of the same name is never gone on with.
        target = partial / f"{known.sha256[:16]}-{file.rpartition('/')[2]}"
        for attempt in range(1, self.site.attempts + 1):
            before = target.stat().st_size if target.exists() else 0
            try:
                _transfer(self.client, url, target, tell)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                after = target.stat().st_size if target.exists() else 0
                _judge(self.site, error, url, attempt, begun=attempt > 1 or after > before)
                tell(f"{url}: cut after {after / 1e6:.1f} MB ({_reason(error)}); going on from there")
            else:
                break
        if (got := digest(target)) != known.sha256:
            target.unlink()
            raise Mistake.at(url, f"has SHA-256 {got}, not {known.sha256} as {known}; removed", "do not use it: find out who changed what")
        return target

    def published(self, project: Project, file: str, version: str, arch: str) -> Known | None:
        """The digest that the same site publishes for a release file; None where the project publishes none."""
        if project.release.digests is None:
            return None
        name = file.rpartition("/")[2]
        sums = project.release.digests.format(version=version, arch=arch, file=name)
        found = parse(self.text(sums), where=self.site.url(sums))
        sha256 = found.get(name) or found.get("")
        if sha256 is None:
            raise Mistake.at(
                self.site.url(sums), f"has no digest of {name}", "check the version in the inventory, or set binaries.source: build"
            )
        return Known(sha256=sha256, by="published", where=self.site.url(sums))


def _judge(site: Site, error: Exception, url: str, attempt: int, *, begun: bool) -> None:
    """Return if another attempt is worth it; else raise what the error means."""
    reason = _reason(error)
    if isinstance(_root(error), ssl.SSLCertVerificationError):
        raise Mistake.at(
            url, f"its certificate is not trusted: {reason}", "name the CA in SSL_CERT_FILE, or set binaries.source: build"
        ) from error
    if isinstance(error, UNREACHABLE) and not begun:
        raise Unreachable(f"{url}: {reason}") from error
    if not isinstance(error, CUT):
        raise Mistake.at(url, reason, "check binaries.mirror and the proxy settings") from error
    if attempt == site.attempts:
        raise Mistake.at(url, f"cut {attempt} times, at last: {reason}", "run the same again: it goes on from there") from error
    time.sleep(site.pause * attempt)


def _transfer(client: httpx2.Client, url: str, target: Path, tell: Callable[[str], None]) -> None:
    """One GET into a file, from where the file ends."""
    start = target.stat().st_size if target.exists() else 0
    # Without compression: Range counts the bytes that are sent.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
            return  # it is all there, or too long: its digest tells
        _accept(answer, url)
        resumed = answer.status_code == httpx2.codes.PARTIAL_CONTENT
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            target.unlink()
            raise httpx2.RemoteProtocolError(f"the site sent another range than bytes {start}-")
        done = start if resumed else 0
        total = done + int(answer.headers.get("Content-Length", 0))
        told = time.monotonic()
        with target.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                done += len(chunk)
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    tell(f"{url}: {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total > done else f"{url}: {done / 1e6:.0f} MB")


def _accept(answer: httpx2.Response, url: str) -> None:
    if answer.status_code == httpx2.codes.PROXY_AUTHENTICATION_REQUIRED:
        raise Unreachable(f"{url}: the proxy refuses: {answer.reason_phrase}")
    if answer.status_code == httpx2.codes.NOT_FOUND:
        raise Mistake.at(url, "is not there (404)", "check the version in the inventory and binaries.mirror")
    if not answer.is_success:
        raise Mistake.at(url, f"the site answered {answer.status_code} {answer.reason_phrase}", "try again later, or set binaries.mirror")


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _reason(error: BaseException) -> str:
    root = _root(error)
    return str(error) or str(root) or type(error).__name__
