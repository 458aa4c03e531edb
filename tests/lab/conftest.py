"""One lab for the whole run, with a cluster of its own name; gone afterwards, also when a test fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, load
from hardway.lab import hosts
from hardway.lab.machine import Machine
from hardway.lab.place import Place
from hardway.remote.cluster import Cluster
from hardway.state import State
from hardway.verbs.program.console import Console
from hardway.verbs.program.running import running
from hardway.verbs.program.session import Session

ROOT = Path(__file__).parents[2]
JOURNALS = ROOT / "journals"  # of a run that failed; ignored by git
LONGEST = 3600  # seconds for one verb: a cold build of Kubernetes is the longest


@dataclass
class LabCluster:
    """The cluster under test, as an operator has it and as the engine sees it."""

    path: Path  # of its inventory
    stack: ExitStack

    def inv(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb as an operator does; what it says is kept for the report of a failure."""
        argv = [str(ROOT / "inv"), "--inventory", str(self.path), *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONGEST, stdin=subprocess.DEVNULL)
        print(f"$ inv {' '.join(words)} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A verb under way, to be read from and interrupted."""
        argv = [str(ROOT / "inv"), "--inventory", str(self.path), *words]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    @cached_property
    def inventory(self) -> Inventory:
        return Session.of(load(self.path), Console()).inventory

    @property
    def state(self) -> State:
        return State(ROOT / "state" / self.inventory.cluster)

    @cached_property
    def live(self) -> Cluster:
        """The running cluster; to be asked for after `up`."""
        session = Session.of(self.inventory, Console())
        return self.stack.enter_context(running(session, self.state, print))

    def read_again(self) -> None:
        """After certificates were issued: `live` has what state/ holds now."""
        self.__dict__.pop("live", None)

    def cut_power(self, host: Host) -> None:
        """A host dies."""
        lab = Machine().lab(self.inventory.cluster)
        assert lab
        Place(lab=lab, name=host.name).stop()

    def boot(self) -> None:
        """Whoever is dead boots again."""
        hosts.up(self.inventory, self.state.root, print, owner=os.getpid())

    def controller(self, number: int = 1) -> Host:
        return self.inventory.on("controller")[number - 1]


@contextmanager
def booted(path: Path, text: str) -> Iterator[LabCluster]:
    """The hosts of an inventory, answering over SSH and with nothing on them yet; gone afterwards, whatever happens."""
    path.write_text(text)
    hosts.reap(print)
    with ExitStack() as stack:
        cluster = LabCluster(path=path, stack=stack)
        state = cluster.state.root
        stack.callback(shutil.rmtree, state, ignore_errors=True)
        stack.callback(hosts.down, cluster.inventory, state, print)
        hosts.up(cluster.inventory, state, print, owner=os.getpid())
        yield cluster


def shipped(name: str, network: int) -> str:
    """The shipped inventory, for a lab that stands beside others: a name of this run's, and a network of its own."""
    text = (ROOT / "inventory.yaml").read_text()
    return text.replace("cluster: hardway", f"cluster: {name}-{os.getpid()}").replace("10.240.0.", f"10.{network}.{os.getpid() % 250 + 1}.")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LabCluster]:
    """The shipped inventory's hosts."""
    with booted(tmp_path_factory.mktemp("inventory") / "inventory.yaml", shipped("test", 242)) as cluster:
        yield cluster
        if request.session.testsfailed:
            _keep_journals(cluster)


@pytest.fixture(scope="session")
def cluster(lab: LabCluster) -> LabCluster:
    """The whole control plane, up."""
    assert lab.inv("up").returncode == 0
    return lab


def _keep_journals(cluster: LabCluster) -> None:
    for host in cluster.inventory.hosts:
        try:
            text = cluster.live.run(host, "journalctl", "--no-pager", "-o", "short-precise", "-n", "3000")
        except Mistake as mistake:
            text = str(mistake)
        JOURNALS.mkdir(exist_ok=True)
        (JOURNALS / f"{host.name}.txt").write_text(text)
