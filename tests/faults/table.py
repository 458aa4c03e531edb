"""The table of docs/faults.md: what forty faults do to a cluster of ours, with verdicts from the JUnit file of a run.

./inv test --full -- -k test_fault --junit-xml faults.xml
.venv/bin/python -m tests.faults.table faults.xml > docs/faults.md
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

HEAD = """# Forty faults

What happens when something breaks. Each fault has tests of its name in [tests/faults](../tests/faults) and
[tests/lab](../tests/lab): they break it, look at what is told, mend it, run again, and look at what the hosts
then carry. Made of the results of a run; a test holds that none is missing here:

    ./inv test --full -- -k test_fault --junit-xml faults.xml
    .venv/bin/python -m tests.faults.table faults.xml > docs/faults.md

In each: one line for each host, with what to do; no secret in it; the lock is free; hosts after the one that fails are left as they were.
Verdicts: **yes**, it behaves so, and its tests have passed; **part**, the rest stands beside it; **no**, and why.

"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, what has to happen, and what of that does not, if something."""

    what: str
    behaviour: str
    lacks: str = ""


FAULTS: Mapping[int, Fault] = {
    1: Fault(
        "SSH drops in the middle of a push",
        "before the commit of a change the old files stay, after it all new ones are there; no retry by itself",
    ),
    2: Fault("hosts that cannot be reached", "all of them are named at once, before any host is changed"),
    3: Fault(
        "a host dies in the middle of a rotation",
        "the roll stops, the others stay as they are, it goes on afterwards",
    ),
    4: Fault("a changed host key", "refused with both fingerprints"),
    5: Fault("an unknown host key", "refused with its fingerprint; nothing is accepted by itself"),
    6: Fault("a wrong user or key", "one connection and one line for each host, however often a run wants it"),
    7: Fault("sudo wants a password, or refuses", "asked for once, or told where nobody can be asked; no hang"),
    8: Fault("no Python on a host", "does not matter: nor perl, curl, openssl or SFTP"),
    9: Fault("a login shell that is not POSIX, and noise", "does not matter"),
    10: Fault("a host's disk is full", "the old files stay, no service is restarted, nothing is left over"),
    11: Fault("the operator's disk is full", "no half-written certificate or key in `state/`, no host is changed"),
    12: Fault("a read-only file system", "told before any restart"),
    13: Fault(
        "a half-written file, or a run that was killed", "found by its digest and written again; what was committed is finished first"
    ),
    14: Fault("a certificate without its key", "issued again in `state/`, written again on a host"),
    15: Fault("a key that is not the certificate's", "found in `state/` before any host is asked, issued again"),
    16: Fault("an authority's key is missing", "what issues nothing works; issuing is refused with the path; no new authority by itself"),
    17: Fault("the key of another authority", "refused"),
    18: Fault("a certificate that has expired", "issued again without asking any API server"),
    19: Fault(
        "an authority that has expired",
        "certificates are refused, with what to do; `./inv rotate.authority` replaces it at once, with all others that have expired",
    ),
    20: Fault("clocks that differ", "told from 2 s on, refused from 30 s on; what is issued is good five minutes ago"),
    21: Fault("one etcd member is lost with its data", "told, no other is touched; `./inv etcd.rejoin HOST` puts it back"),
    22: Fault(
        "etcd's quorum is lost",
        "told at once, no other is touched and nothing put back by itself; `./inv etcd.restore FILE --yes` mends it",
    ),
    23: Fault("etcd has no space left (alarm)", "no rotation begins; status tells the alarm"),
    24: Fault("a corrupt snapshot", "refused before anything stops"),
    25: Fault("a snapshot of another cluster, or without its encryption key", "refused before anything stops"),
    26: Fault("an API server is killed during a rotation", "the gate stays closed, the run stops"),
    27: Fault("no API server answers", "certificates are brought to the hosts all the same"),
    28: Fault("the kit is killed in the middle of a rotation", "the next run goes on from what is there"),
    29: Fault("Ctrl-C in the middle", "the host that has begun is finished, the next is not begun"),
    30: Fault("two operators at once", "the second is told who, since when and doing what"),
    31: Fault("the lock's holder was killed", "the lock is free: it cannot be stale, so there is nothing to break"),
    32: Fault("a bad inventory", "all that is wrong at once, each with its line, before any SSH"),
    33: Fault(
        "a mistyped key or flag", "refused, with what was meant; a daemon's own flags by asking that daemon, before any host is changed"
    ),
    34: Fault(
        "a unit that does not start",
        "goes back to the files that it was proved with; told with its journal",
    ),
    35: Fault(
        "a unit that starts and crashes again and again",
        "goes back to the files that it was proved with; told with its journal",
    ),
    36: Fault("a port in use", "told with program and process; one of ours may hold it"),
    37: Fault("a kernel that lacks a module or a setting", "told before anything is changed"),
    38: Fault("swap is on; control groups of version 1", "swap is refused on workers; version 1 is a warning"),
    39: Fault(
        "versions that do not go together",
        "hosts have one version; etcd and API servers go up by one minor version at a time, and never down: all else is refused",
    ),
    40: Fault(
        "names that lead nowhere",
        "the endpoint's name has to resolve on workers, is in the certificates, and a stub resolver is seen through",
    ),
}
NAME = re.compile(r"test_fault_([0-9]{2})_(\w+)")


def results(junit: str) -> dict[int, dict[str, set[str]]]:
    """Fault -> test -> how its cases ended."""
    found: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for case in ET.fromstring(junit).iter("testcase"):  # noqa: S314 - our own test run has written it
        named = NAME.match(case.get("name", ""))
        if named:
            ends = {child.tag for child in case} & {"failure", "error", "skipped"}
            found[int(named[1])][named[0]] |= ends or {"passed"}
    return found


def rows(found: Mapping[int, Mapping[str, set[str]]]) -> Iterator[str]:
    """A row for each fault."""
    for number, fault in FAULTS.items():
        tests = found.get(number, {})
        ends = set().union(*tests.values()) if tests else set()
        if ends & {"failure", "error"}:
            verdict, why = "**no**", "its test fails"
        elif not tests:
            verdict, why = "**no**", fault.lacks or "no test yet"
        elif ends != {"passed"}:
            verdict, why = "**no**", "its test was skipped in this run"
        else:
            verdict, why = ("part", fault.lacks) if fault.lacks else ("yes", "")
        names = ", ".join(f"`{name}`" for name in sorted(tests))
        yield f"| {number} | {fault.what} | {fault.behaviour} | {verdict}{f': {why}' if why else ''} | {names} |"


def page(found: Mapping[int, Mapping[str, set[str]]]) -> str:
    """All of docs/faults.md."""
    return f"{HEAD}| # | fault | what has to happen | does it? | tests |\n|---|---|---|---|---|\n" + "".join(
        f"{row}\n" for row in rows(found)
    )


def named(texts: Iterable[str]) -> set[str]:
    """The tests that sources hold."""
    return {found[0] for text in texts for found in re.finditer(rf"(?<=def ){NAME.pattern}(?=\()", text)}


if __name__ == "__main__":
    sys.stdout.write(page(results(Path(sys.argv[1]).read_text())))
