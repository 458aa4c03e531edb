"""The real host.sh on the root file systems of the distributions that we name: their shell, coreutils, tar and systemd's own files."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from hardway.binaries.fetch import CACHE
from hardway.desired import Blob
from hardway.observed import Asked
from hardway.remote.machine import Machine
from hardway.remote.protocol import Action, Apply, Move, Removal
from tests.remote.fakehost import JOURNALCTL, SYSTEMCTL, LocalChannel
from tests.remote.test_machine import move, sha

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mmdebstrap"), reason="wants root, and mmdebstrap"),
]
SUITES = {"bookworm": 252, "trixie": 257}  # Debian's -> its systemd
ETC = PurePosixPath("/etc/hardway-test/a b")
UP = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nInvocationID=f00d\nNRestarts=0\n"
BINARY = PurePosixPath("/usr/local/bin/hardway-test")


@dataclass
class Chroot:
    """A root file system in which commands run as sshd runs them; systemctl and journalctl, which want a systemd, are stand-ins."""

    root: Path
    connects: int = 1

    def execute(self, command: str, *, tty: bool = False) -> LocalChannel:
        assert not tty
        inside = f"mount -t proc proc /proc && PATH=/stand-in:$PATH exec sh -c {shlex.quote(command)}"
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", str(self.root), "/bin/sh", "-c", inside]
        errors = (self.root / "errors").open("w+b")
        pipe = subprocess.PIPE
        return LocalChannel(subprocess.Popen(argv, bufsize=0, stdin=pipe, stdout=pipe, stderr=errors), errors)

    def dial(self, address: str, port: int) -> socket.socket:  # noqa: ARG002 - as a line has it
        raise ConnectionRefusedError

    def close(self) -> None: ...


def archive(suite: str) -> Path:
    """What is essential in a release, and systemd; made once, and kept beside the binaries."""
    path = CACHE / "roots" / f"{suite}-essential.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{suite}.part.tar")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", "--include=systemd,openssh-server", suite, part], check=True)
        part.replace(path)
    return path


@pytest.fixture(scope="module", params=SUITES)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp(request.param)
    subprocess.run(["tar", "-xf", archive(request.param), "-C", root, "--exclude=./dev/*"], check=True)
    (root / "stand-in").mkdir()
    subprocess.run(["mknod", "-m", "666", root / "dev/null", "c", "1", "3"], check=True)
    for name, text in (("systemctl", SYSTEMCTL.replace("252 (252.39-1~deb12u2)", str(SUITES[request.param]))), ("journalctl", JOURNALCTL)):
        (root / "stand-in" / name).write_text(text)
        (root / "stand-in" / name).chmod(0o755)
    (root / "units").mkdir()
    (root / "units" / "x.service").write_text(UP)
    yield Machine(name=request.param, line=Chroot(root))
    shutil.rmtree(root)


def test_a_host_of_this_release_is_observed_changed_and_observed_again(machine: Machine, tmp_path: Path) -> None:
    assert not machine.run("sh", "-c", "command -v python3 perl curl || :").replace("/usr/bin/perl\n", "")
    facts = machine.observe(frozenset(), ("x.service",), Asked(programs=("sh", "no-such-program"))).facts
    assert (facts.systemd, set(facts.programs)) == (SUITES[machine.name], {"sh"})
    data = os.urandom(3 << 20)
    (tmp_path / "binary").write_bytes(data)
    machine.store([Blob(sha256=sha(data), size=len(data), local=tmp_path / "binary")])
    users = b'u hwtest - "one of ours" /\n'
    change = Apply(
        moves=(
            move(PurePosixPath("/etc/sysusers.d/hwtest.conf"), users, owner="root:root"),
            move(ETC, b"text\n", mode=0o640, owner="root:hwtest"),
            move(BINARY, data, mode=0o755, owner="root:root"),
        ),
        owed=frozenset({"x.service"}),
        actions=(Action(verb="restart", unit="x.service"),),
        contents=(users, b"text\n"),
    )
    with machine.lock("push"):
        machine.apply(change)
    seen = machine.observe(frozenset({ETC, BINARY}))
    assert (seen.files[ETC].owner, seen.files[ETC].mode, seen.files[ETC].sha256) == ("root:hwtest", 0o640, sha(b"text\n"))
    assert (seen.files[BINARY].mode, seen.files[BINARY].sha256) == (0o755, sha(data))
    assert seen.owed == {"x.service"}
    assert machine.read([ETC]) == {ETC: "text\n"}
    machine.settle(["x.service"])
    machine.apply(
        Apply(moves=(Move(path=ETC, owner="root:root", mode=0o600, before=sha(b"text\n"), after=sha(b"new")),), contents=(b"new",))
    )
    machine.apply(Apply(removals=(Removal(path=ETC, before=sha(b"new")),)))
    seen = machine.observe(frozenset({ETC}), verify=True)
    assert (ETC in seen.files, BINARY in seen.files, seen.owed, seen.died) == (False, True, frozenset(), False)
