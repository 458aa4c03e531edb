"""The release site and the operator of these tests."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from hardway.binaries.upstream import UPSTREAM
from tests.binaries.release_site import KUBE, Handler, Operator, ReleaseSite, Server


@pytest.fixture
def release_site() -> Iterator[ReleaseSite]:
    site = ReleaseSite()
    server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"site": site}))
    site.server = server
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    site.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def kubectl(release_site: ReleaseSite) -> bytes:
    """A published program that is larger than a socket's buffers."""
    content = Random(1).randbytes(3_000_000)  # noqa: S311 - any bytes do
    release_site.publish(f"{KUBE}/kubectl", content)
    return content


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """The repository's upstream/ with no digest committed."""
    folder = tmp_path / "upstream"
    shutil.copytree(UPSTREAM, folder, ignore=shutil.ignore_patterns("SHA256SUMS"))
    return folder


@pytest.fixture
def operator(tmp_path: Path, release_site: ReleaseSite, upstream: Path) -> Operator:
    return Operator(home=tmp_path, mirror=release_site.url, upstream=upstream)


@pytest.fixture
def no_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Go."""
    monkeypatch.setenv("PATH", str(tmp_path))
