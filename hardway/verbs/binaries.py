"""binaries: the upstream programs, brought here before anything is pushed."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.binaries import Binary


@task(
    auto_shortflags=False,
    help={
        "arch": "of the hosts: amd64 or arm64, this machine's if it is not given",
        "lock": "write the digests that the release sites publish into upstream/ instead, and show what changes",
    },
)
def binaries(c: Context, arch: str = "", lock: bool = False) -> None:
    """Bring the programs that the inventory's roles need, and say where each came from."""
    from hardway.remote.protocol import ARCHITECTURES

    session = Session.open(c)
    here = ARCHITECTURES.get(platform.machine(), "")
    if lock:
        _lock(session)
        return
    if (arch := arch or here) not in ARCHITECTURES.values():
        raise Mistake.at(
            "--arch", f"{arch or platform.machine()} is no architecture of a host", f"known are {', '.join(ARCHITECTURES.values())}"
        )
    began = time.monotonic()
    with session.console.step("binaries") as tell:
        brought = _bring(session, arch, here, tell)
    rows = [(one.name, one.version, one.arch, _source(one), one.sha256[:12], f"{one.size / 1e6:.1f} MB") for one in brought]
    session.console.table(("program", "version", "arch", "from", "sha-256", "size"), rows)
    session.console.result(f"{len(rows)} programs, {sum(one.size for one in brought) / 1e6:.0f} MB, {time.monotonic() - began:.1f} s")


def _bring(session: Session, arch: str, here: str, tell: Callable[[str], None]) -> list[Binary]:
    """What the roles need for the hosts, and kubectl for the operator's own machine."""
    from hardway.binaries import CACHE, fetch
    from hardway.verbs.program.running import needed

    pins = session.state / "pins.json"
    by_arch = {arch: needed(session.inventory, arch)}
    if here and here != arch:
        by_arch[here] = frozenset({"kubectl"})
    return [one for each, programs in by_arch.items() for one in fetch(programs, each, session.inventory, CACHE, tell, pins=pins).values()]


def _source(one: Binary) -> str:
    return one.source if one.source == one.origin else f"{one.source} ({one.origin})"


def _lock(session: Session) -> None:
    from hardway.binaries.lock import lock

    with session.console.step("digests") as tell:
        changes = lock(session.inventory, tell)
    for change in changes:
        if change.old:
            session.console.result(f"- {change.old}  {change.file}", style="red")
        session.console.result(f"+ {change.new}  {change.file}", style="green")
    session.console.result(f"{len(changes)} digests changed in upstream/; look at `git diff upstream`" if changes else "nothing to change")
