"""The same for several hosts at once: every result and every failure is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from hardway.errors import Mistake
from hardway.inventory import Host

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one host has no result."""

    error: Mistake


def each(hosts: Iterable[Host], do: Callable[[Host], T], at_once: int) -> dict[str, T | Failure]:
    """What `do` gives for each host, by its name; after Ctrl-C those under way finish and no other begins."""

    def tried(host: Host) -> T | Failure:
        try:
            return do(host)
        except Mistake as error:
            return Failure(error)

    with ThreadPoolExecutor(max_workers=max(at_once, 1)) as pool:
        waiting = {host.name: pool.submit(tried, host) for host in hosts}
        try:
            return {name: future.result() for name, future in waiting.items()}
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def all_of(results: Mapping[str, T | Failure]) -> dict[str, T]:
    """The results; one Mistake with every host's findings if any failed."""
    findings = [finding for result in results.values() if isinstance(result, Failure) for finding in result.error.findings]
    if findings:
        raise Mistake(*findings)
    return {name: result for name, result in results.items() if not isinstance(result, Failure)}
