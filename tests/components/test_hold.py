"""What a worker's kernel is told while its kubelet restarts, and how long the restart waits for what is under way."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hardway import pod_ranges, render
from hardway.components import containerd, kubelet
from hardway.components.daemon import SYSTEM
from hardway.inventory import load
from hardway.pki import declared

ROOT = Path(__file__).parents[2]
WRITTEN = load(ROOT / "inventory.yaml")
INVENTORY = pod_ranges.placed(WRITTEN, pod_ranges.allot(WRITTEN, {}))
FILES = render.tree(declared.load(ROOT / "certs"), INVENTORY, INVENTORY.on("worker")[0])

COUNTED = '#!/bin/sh\necho >>"$TOLD.slept"\n'
LISTED = f"list table ip {kubelet.TABLE}\n----\n"
RELEASED = f"table ip {kubelet.TABLE}; delete table ip {kubelet.TABLE}\n----\n"
NEW, ALL = "tcp dport @held tcp flags & (syn | ack) == syn drop", "tcp dport @held  drop"


class Host:
    """The script as a worker has it, but for where the runtime listens; and an nft that writes down what it is told, and has a table."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "containerd.sock"
        self.runtime = socket.create_server(("127.0.0.1", 0))
        port = f":{self.runtime.getsockname()[1]:04X} "
        text = FILES[kubelet.HOLD.path]
        assert text.count(f":{containerd.STREAM_PORT:04X} ") == 1
        assert text.count(f" {containerd.SOCKET}$") == 1
        mine = text.replace(f":{containerd.STREAM_PORT:04X} ", port).replace(containerd.SOCKET, str(self.socket))
        (directory / "hold.sh").write_text(mine)
        self.nft = directory / "nft"
        self.nft.write_text('#!/bin/sh\n[ "$1" != -f ] || set -- "$(cat)"\necho "$*" >>"$TOLD"\necho ---- >>"$TOLD"\n')
        self.sleep = directory / "sleep"
        self.sleep.write_text(f'{COUNTED}exec /bin/sleep "$1"\n')
        for program in ("nft", "sleep"):
            (directory / program).chmod(0o755)
        self.told = directory / "told"
        self.environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "TOLD": str(self.told)}
        self.script = directory / "hold.sh"

    def run(self, shell: str, *words: str) -> None:
        subprocess.run([*shell.split(), str(self.script), *words], env=self.environment, check=True, timeout=30)

    @contextmanager
    def listening(self) -> Iterator[Callable[[], None]]:
        """The runtime listens; by what is yielded the kubelet calls it."""
        with ExitStack() as stack, socket.socket(socket.AF_UNIX) as listens, socket.socket(socket.AF_UNIX) as calls:
            listens.bind(str(self.socket))
            listens.listen()

            def call() -> None:
                calls.connect(str(self.socket))
                stack.enter_context(listens.accept()[0])

            yield call

    @property
    def looks(self) -> int:
        """How often it has waited for something."""
        slept = self.told.with_name("told.slept")
        return len(slept.read_text().splitlines()) if slept.exists() else 0

    @property
    def rules(self) -> list[tuple[str, bool]]:
        """What each call of nft was told: the rule, and whether it ends by itself after five seconds."""
        calls = self.told.read_text().split("----\n")[:-1]
        return [(next((line.strip() for line in call.splitlines() if " drop" in line), ""), "10250 timeout 5s" in call) for call in calls]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.runtime.close()


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_new_connections_wait_then_all_that_comes_and_at_last_nothing(host: Host, shell: str) -> None:
    host.run(shell, "new", "5s")
    assert host.rules == [(NEW, True)]
    host.run(shell, "all", "5s")
    assert host.rules[1:] == [(NEW, True), (ALL, True)]
    with host.listening() as call:
        call()
        host.run(shell)
    assert host.told.read_text().endswith(f"----\n{LISTED}{RELEASED}")


def test_what_is_under_way_may_end_first(host: Host) -> None:
    client = socket.create_connection(host.runtime.getsockname())
    server, _ = host.runtime.accept()
    running = threading.Thread(target=host.run, args=("sh", "all", "5s"))
    running.start()
    while not host.told.exists() or not host.told.read_text().endswith("----\n"):
        assert running.is_alive()
    assert host.rules == [(NEW, True)]

    client.close()
    server.close()
    running.join()

    assert host.rules == [(NEW, True), (ALL, True)]


def test_what_does_not_end_is_not_waited_for(host: Host) -> None:
    with socket.create_connection(host.runtime.getsockname()), host.runtime.accept()[0]:
        host.run("sh", "all", "5s")

    assert host.rules == [(NEW, True), (ALL, True)]


def test_all_waits_until_the_kubelet_has_its_runtime_again(host: Host) -> None:
    with host.listening() as call:
        running = threading.Thread(target=host.run, args=("sh",))
        running.start()
        while host.looks < 5:
            assert running.is_alive()
        assert host.told.read_text() == LISTED

        call()
        running.join()

    assert host.told.read_text() == LISTED + RELEASED


def test_a_kubelet_is_not_waited_for_where_nobody_waits_for_it(host: Host) -> None:
    host.nft.write_text(f'{host.nft.read_text()}[ "$1" != list ]\n')

    host.run("sh")

    assert (host.told.read_text(), host.looks) == (LISTED + RELEASED, 0)


def test_a_kubelet_that_does_not_come_is_not_waited_for_any_longer(host: Host) -> None:
    host.sleep.write_text(COUNTED)  # what is looked at is how often

    host.run("sh")

    assert (host.told.read_text(), host.looks) == (LISTED + RELEASED, 40)


def test_the_units_know_the_script_and_start_without_it() -> None:
    for unit in ("kubelet", "containerd"):
        lines = [line for line in FILES[SYSTEM / f"{unit}.service"].splitlines() if "hold.sh" in line]
        assert [line.partition("=-/bin/sh ")[0] for line in lines] == ["ExecStop", "ExecStartPost"]
        assert all(str(kubelet.HOLD.path) in line for line in lines)
