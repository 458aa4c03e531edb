"""Rotates everything under load, and shows what was kept of it: `.venv/bin/python -m bench.rotations`, from the root, after `./inv up`.

Three quarters of an hour. With the names of records in state/<cluster>/rotations/ it rotates nothing, and shows those.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from hardway import chronicle
from hardway.chronicle import Record
from hardway.inventory import load
from hardway.state import State

VERBS = (
    "rotate.authority front-proxy",
    "rotate.authority cluster-signing",
    "rotate.authority etcd",
    "rotate.authority kubernetes",
    "rotate.authority kubernetes --pace fast",
    # The load's Pods hold older tokens, and nobody would make them again: those of a second load have newer ones.
    "rotate.service-account-key --until switch",
    "rotate.service-account-key --refresh-tokens",
    "rotate.encryption-key",
    "rotate.all --pace fast --until switch",
    "rotate.all --pace fast --refresh-tokens",
)
HEAD = ("what", "restarts", "seconds", "of that proving", "requests", "failures that clients saw", "raw", "longest gap, ms")


def rotated(state: State, verb: str) -> str:
    """Do it under load; the name of its record."""
    before = chronicle.names(state)
    subprocess.run(["./inv", *verb.split(), "--with-traffic"], check=False)  # its failures are in the record
    (new,) = set(chronicle.names(state)) - set(before)
    return new


def row(record: Record, what: str) -> tuple[str, ...]:
    """One line of the table."""
    restarts = Counter(one.unit.removesuffix(".service") for one in record.restarts)
    proving = sum(one.seconds for one in record.phases if one.part == "prove")
    load = record.load
    seen = (f"{load.requests:,}", str(load.visible), str(load.raw), str(load.longest_gap_ms)) if load else ("", "", "", "")
    return (
        what + ("" if record.outcome == "done" else f" ({record.outcome})"),
        ", ".join(f"{unit} {times}" for unit, times in sorted(restarts.items())) or "none",
        f"{record.seconds:.0f}",
        f"{proving:.0f}",
        *seen,
    )


def main() -> None:
    """A table in Markdown, with a line for every failure that a client saw."""
    state = State(Path("state") / load(Path("inventory.yaml")).cluster)
    names = {name: name.rpartition("Z-")[2].removesuffix(".json") for name in sys.argv[1:]} or {
        rotated(state, verb): verb for verb in VERBS
    }
    records = [(what, chronicle.read(state, name)) for name, what in names.items()]
    for cells in (HEAD, ("---",) * len(HEAD), *(row(record, what) for what, record in records)):
        print(f"| {' | '.join(cells)} |")
    for what, record in records:
        for one in record.load.faults if record.load else ():
            if one.visible:
                print(f"{what}: {one.at} {one.kind} {one.instance}: {one.cause}")


if __name__ == "__main__":
    main()
