"""Control groups of the lab's hosts: one for each host in every hierarchy, nested under the caller's own.

Without them the hosts of a lab share one tree, and the kubelets of two workers one /kubepods.
"""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath

from hardway.errors import Mistake
from hardway.lab.machine import Process


def own(cgroup: str, mountinfo: str) -> tuple[Path, ...]:
    """The caller's directory in each mounted hierarchy, from the texts of /proc/self/cgroup and /proc/self/mountinfo."""
    mounts: dict[frozenset[str], tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            root, point = before.split()[3:5]
            names = frozenset(options.split(",")) if kind == "cgroup" else frozenset()
            mounts[names] = (root, point)
    found = []
    for line in cgroup.splitlines():
        number, controllers, path = line.split(":", 2)
        wanted = frozenset(controllers.split(",")) if controllers else frozenset()
        for names, (root, point) in mounts.items():
            if wanted <= names and (controllers or not names):
                inside = PurePosixPath(path)
                relative = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
                # In a pure version 2 tree a group with processes of its own cannot hand its controllers on; the root can.
                found.append(Path(point) if number == "0" and len(mounts) == 1 else Path(point) / relative)
                break
    return tuple(found)


def places(name: str) -> tuple[Path, ...]:
    """Where a lab's own groups go for the running process."""
    found = own(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    if not found:
        raise Mistake.at("lab", "no control groups are mounted", "mount them at /sys/fs/cgroup, or use machines of your own")
    return tuple(directory / name for directory in found)


def make(group: Path) -> None:
    """Make a group that processes can join."""
    try:
        group.mkdir(exist_ok=True)
    except OSError as error:
        raise Mistake.at(
            "lab", f"cannot make the control group {group}: {error.strerror}", "the lab wants a machine, or a privileged container"
        ) from error
    for limit in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty at first, and then no process can join
        if (group / limit).exists() and not (group / "cgroup.subtree_control").exists():
            (group / limit).write_text((group.parent / limit).read_text())
    if (group.parent / "cgroup.subtree_control").exists():
        for controller in (group.parent / "cgroup.controllers").read_text().split():
            try:
                (group.parent / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError:
                continue  # taken by version 1, or not ours to hand on: the host does without its limits


def processes(group: Path) -> frozenset[int]:
    """Every process in a group and below."""
    found: set[int] = set()
    for directory, _, files in os.walk(group):
        if "cgroup.procs" in files:
            try:
                found.update(map(int, (Path(directory) / "cgroup.procs").read_text().split()))
            except OSError:
                continue  # removed while we looked
    return frozenset(found - {0})


def empty(groups: tuple[Path, ...], within: float = 20) -> None:
    """Kill what runs in these groups, which are ours alone, and wait until it is gone."""
    deadline = time.monotonic() + within
    while left := frozenset[int]().union(*map(processes, groups)):
        for pid in left:
            if process := Process.of(pid):
                process.kill()
        if time.monotonic() > deadline:
            raise Mistake.at("lab", f"processes {sorted(left)} do not end", "see what they wait for in /proc/PID/stack, then run it again")
        time.sleep(0.02)


def remove(group: Path) -> None:
    """Remove an empty group with all below it."""
    for directory, _, _ in os.walk(group, topdown=False):
        deadline = time.monotonic() + 5
        while os.path.isdir(directory):  # noqa: PTH112 - a plain string from os.walk
            try:
                os.rmdir(directory)  # noqa: PTH106 - the same
            except OSError:  # busy: the kernel is still letting go of the last process
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
