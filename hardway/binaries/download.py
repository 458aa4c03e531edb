"""Downloads of release files: resumed after a cut, refused if they are not what they must be."""

from __future__ import annotations

import ssl
import tarfile
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from hardway.binaries.cache import digest
from hardway.errors import Mistake

CHUNK = 1 << 18
CUT = (httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.ConnectError, httpx2.ConnectTimeout)
UNREACHABLE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)


class Unreachable(Exception):  # noqa: N818 - no error by itself: another source may do
    """No connection to a release site: a network that is closed, or a proxy that refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """How release files are reached: at the projects' own hosts, or all below a mirror's URL."""

    mirror: str | None = None
    connect: float = 4.0  # seconds until a site counts as unreachable
    read: float = 30.0  # seconds without a byte until a transfer counts as cut
    attempts: int = 5
    pause: float = 1.0  # seconds before the second attempt, twice as many before the third, and so on

    def url(self, file: str) -> str:
        """Where a file, named by host and path, is served."""
        return f"{self.mirror.rstrip('/')}/{file}" if self.mirror else f"https://{file}"

    def text(self, file: str) -> str:
        """A small file, such as one of checksums."""
        url = self.url(file)
        with self._client() as client:
            for attempt in range(1, self.attempts + 1):
                try:
                    answer = client.get(url)
                except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                    self._judge(error, url, attempt, begun=attempt > 1)
                else:
                    _accept(answer, url)
                    return answer.text
        raise AssertionError(url)  # _judge raises at the last attempt

    def download(self, file: str, sha256: str, partial: Path, tell: Callable[[str], None]) -> Path:
        """A whole file in the folder `partial`, with that digest; after a cut it goes on, also in a later run."""
        url = self.url(file)
        partial.mkdir(parents=True, exist_ok=True)
        # Named by the digest too: what is left of another release of the same name is never gone on with.
        target = partial / f"{sha256[:16]}-{file.rpartition('/')[2]}"
        with self._client() as client:
            for attempt in range(1, self.attempts + 1):
                before = target.stat().st_size if target.exists() else 0
                try:
                    _transfer(client, url, target, tell)
                except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                    after = target.stat().st_size if target.exists() else 0
                    self._judge(error, url, attempt, begun=attempt > 1 or after > before)
                    tell(f"{url}: cut after {after / 1e6:.1f} MB ({_reason(error)}); going on from there")
                else:
                    break
        if (got := digest(target)) != sha256:
            target.unlink()
            raise Mistake.at(url, f"has SHA-256 {got}, not {sha256}; removed", "do not use it: find out who changed it")
        return target

    def _client(self) -> httpx2.Client:
        return httpx2.Client(timeout=httpx2.Timeout(self.read, connect=self.connect), follow_redirects=True)

    def _judge(self, error: Exception, url: str, attempt: int, *, begun: bool) -> None:
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
        if attempt == self.attempts:
            raise Mistake.at(url, f"cut {attempt} times, at last: {reason}", "run the same again: it goes on from there") from error
        time.sleep(self.pause * attempt)


def extract(archive: Path, members: Mapping[str, str], folder: Path, *, where: str) -> dict[str, Path]:
    """The files of a .tar.gz named by `members` (name -> path in the archive), written into a folder."""
    try:
        made = {}
        with tarfile.open(archive, "r:gz") as tar:
            for name, member in members.items():
                if (source := tar.extractfile(member)) is None:
                    raise Mistake.at(where, f"{member} in it is no regular file", "look at what the site serves")
                made[name] = folder / name
                with source, made[name].open("wb") as file:
                    while chunk := source.read(CHUNK):
                        file.write(chunk)
    except KeyError as error:
        raise Mistake.at(where, str(error.args[0]), "look at what the site serves") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise Mistake.at(where, f"is a broken archive: {error}", "look at what the site serves") from error
    return made


def _transfer(client: httpx2.Client, url: str, target: Path, tell: Callable[[str], None]) -> None:
    """One GET into a file, from where the file ends."""
    start = target.stat().st_size if target.exists() else 0
    # Without compression: Range counts the bytes that are sent.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx2.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
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
            for chunk in answer.iter_raw(CHUNK):
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
