"""The same for several hosts at once: every result and every failure is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from hardway.errors import Finding, Mistake
from hardway.inventory import Host

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one host has no result."""

    error: Mistake


def attempt(hosts: Iterable[Host], do: Callable[[Host], T], at_once: int) -> dict[Host, T | Failure]:
    """What `do` gives for each host, or why not; after Ctrl-C those under way finish and no other begins."""

    def tried(host: Host) -> T | Failure:
        try:
            return do(host)
        except Mistake as error:
            return Failure(error)

    pool = ThreadPoolExecutor(max_workers=max(at_once, 1))
    waiting = {host: pool.submit(tried, host) for host in hosts}
    try:
        return {host: future.result() for host, future in waiting.items()}
    except BaseException:
        for future in waiting.values():
            future.cancel()
        wait(waiting.values())  # a second Ctrl-C ends this too, and the caller closes the connections
        raise
    finally:
        pool.shutdown(wait=False)


def each(hosts: Iterable[Host], do: Callable[[Host], T], at_once: int) -> dict[Host, T]:
    """What `do` gives for each host; if any fails, one Mistake with every host's findings, after all have been tried."""
    results: dict[Host, T] = {}
    findings: list[Finding] = []
    for host, result in attempt(hosts, do, at_once).items():
        if isinstance(result, Failure):
            findings += result.error.findings
        else:
            results[host] = result
    if findings:
        raise Mistake(*findings)
    return results
