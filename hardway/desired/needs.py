"""What a component needs of a host before it can be installed there; judged by preflight (12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Data, so that preflight knows no component by name. Programs of the distribution are in Component.packages."""

    ports: tuple[int, ...] = ()  # TCP ports at which it listens
    memory: int = 0  # MiB that it takes at rest
    kernel: tuple[int, int] = (0, 0)  # the oldest that will do
    modules: tuple[str, ...] = ()  # of the kernel: built in, loaded, or there to be loaded
    settings: Mapping[str, str] = field(default_factory=dict)  # of the kernel, as sysctl names them: they are so, or can be made so
    controllers: tuple[str, ...] = ()  # of control groups
    swapless: bool = False  # it does not start where there is swap
    keeps: tuple[PurePosixPath, ...] = ()  # what it has once it has run, and cannot make again
    restored: str = ""  # how that is brought back
    rejoined: str = ""  # how, where one host of three or more has lost it and no other; {host.name} is filled in
    new: tuple[PurePosixPath, ...] = ()  # what is another's if it is there, and not empty, before the component is
