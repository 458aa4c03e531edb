"""What clients in Pods have written is read back: by a shell that wrote it, and as client-go's logs have it."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardway.traffic.inside import CALLER, calls, counted, polls


class _Server(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(500 if 3 <= self.asked <= 4 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    _Server.asked = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_caller_writes_down_each_request_and_why_it_failed(address: str, tmp_path: Path) -> None:
    for applet in ("timeout", "usleep", "wget"):
        (tmp_path / applet).symlink_to("/bin/busybox")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    lines = []
    with subprocess.Popen(["busybox", "sh", "-c", CALLER, "sh", address], stdout=subprocess.PIPE, text=True, env=environment) as caller:
        assert caller.stdout
        for line in caller.stdout:
            lines.append(line)
            if len(lines) == 6:
                break
        caller.terminate()

    found = counted("service", calls("".join(lines)), 0)
    assert (found.tally.requests, found.tally.visible) == (5, 2)
    assert all("500" in one.cause for one in found.failures)


def test_a_gap_ends_with_the_next_request_that_was_answered() -> None:
    log = "begun 1000 500\n500 501\n505 600 timed out\n605 700 timed out\n705 706\n"

    found = counted("service", calls(log), 0)

    assert (found.tally.requests, found.tally.raw, found.tally.visible) == (4, 2, 2)
    assert found.tally.gap == pytest.approx(2.01)
    assert [round(one.at, 2) for one in found.failures] == [1000.05, 1001.05]


def test_what_was_written_before_the_load_began_does_not_count() -> None:
    found = counted("service", calls("begun 1000 500\n500 501 refused\n600 601\n"), 1000.5)

    assert (found.tally.requests, found.failures) == (1, [])


LOG = """\
I1125 06:32:01.000000       1 main.go:63] started
I1125 06:32:02.000000       1 main.go:80] calling /healthz
E1125 06:32:02.010000       1 main.go:84] error checking /healthz: Get "https://10.32.0.1:443/healthz": dial tcp: refused
I1125 06:32:03.000000       1 main.go:80] calling /healthz
I1125 06:32:03.000100       1 main.go:99] authz_header=abc
I1125 06:32:04.000000       1 main.go:80] calling /healthz
E1125 06:32:06.500000       1 main.go:83] status=failed
E1125 06:32:06.500000       1 main.go:84] error checking /healthz: an error on the server
I1125 06:32:07.000000       1 main.go:80] calling /healthz
I1125 06:32:08.000000       1 main.go:80] calling /healthz
"""


def test_the_client_of_the_api_counts_once_it_was_answered() -> None:
    found = counted("service_account", polls(LOG, 2026), 0)

    assert (found.tally.requests, found.tally.visible) == (3, 1)
    assert [one.cause for one in found.failures] == ["an error on the server"]
    assert found.tally.gap == pytest.approx(3.0)


def test_a_call_that_took_long_is_a_gap_though_it_was_answered() -> None:
    times = ("02.0", "03.0", "04.0", "12.5", "13.0")
    log = "".join(f"I1125 06:32:{time} 1 main.go:80] calling /healthz\n" for time in times)

    found = counted("service_account", polls(log, 2026), 0)

    assert (found.tally.requests, found.tally.visible) == (4, 0)
    assert found.tally.gap == pytest.approx(8.5)
