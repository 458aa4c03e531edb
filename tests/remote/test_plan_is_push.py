"""What a plan names is what a push changes, and afterwards there is nothing to plan; with the real host.sh."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hardway.desired import Content, File, Part, Pickup, Secret, Text, Use
from hardway.inventory import Host
from hardway.observed import Observed
from hardway.plan import Plan, compare
from hardway.push import request
from hardway.remote.machine import Machine
from tests.remote.fakehost import FakeHost

HOST = Host(name="c1", address=IPv4Address("10.240.0.11"), roles=frozenset({"controller"}))
UNIT = "x.service"

contents = st.builds(Text, st.text(max_size=20)) | st.builds(Secret, st.binary(max_size=20))
trees = st.dictionaries(
    st.sampled_from(["/etc/x/a", "/etc/x/b c", "/etc/x/sub/é", "/usr/local/bin/tool"]),
    st.tuples(contents, st.sampled_from([0o644, 0o640, 0o600, 0o755]), st.sampled_from(list(Pickup))),
    max_size=4,
)


def part(tree: dict[str, tuple[Content, int, Pickup]]) -> Part:
    files = tuple(
        File(path=PurePosixPath(path), content=content, uses=(Use(reader=UNIT, pickup=pickup),), mode=mode)
        for path, (content, mode, pickup) in tree.items()
    )
    return Part(component="x", unit=UNIT, files=files)


def planned(machine: Machine, wanted: Part) -> Plan:
    seen: Observed = machine.observe(frozenset(file.path for file in wanted.files), (UNIT,))
    return compare(HOST, [wanted], seen)


def carried(host: FakeHost) -> dict[str, tuple[int, bytes]]:
    """Every file below /etc and /usr with its mode and content."""
    tops = [host.path("/etc"), host.path("/usr")]
    files = [path for top in tops if top.exists() for path in top.rglob("*") if path.is_file()]
    return {str(path).removeprefix(str(host.root)): (path.stat().st_mode & 0o7777, path.read_bytes()) for path in files}


def test_a_file_that_nobody_wants_any_more_is_taken_away(tmp_path: Path) -> None:
    host = FakeHost(base=tmp_path)
    host.unit(UNIT)
    machine = host.machine()
    machine.apply(request(planned(machine, part({name: (Text(""), 0o644, Pickup.POLL) for name in ("/etc/x/a", "/etc/x/b")}))))
    wanted = part({"/etc/x/a": (Text(""), 0o644, Pickup.POLL)})

    plan = planned(machine, wanted)
    machine.apply(request(plan))

    assert [(change.action, change.what) for change in plan.changes] == [("delete", "/etc/x/b")]
    assert not host.path("/etc/x/b").exists()
    assert planned(machine, wanted).changes == ()


def pushed(old: dict[str, tuple[Content, int, Pickup]], new: dict[str, tuple[Content, int, Pickup]]) -> None:
    """Push one tree, then the other, and compare what the plan names with what has changed on disk."""
    with TemporaryDirectory() as directory:
        host = FakeHost(base=Path(directory))
        host.unit(UNIT)
        machine = host.machine()
        machine.apply(request(planned(machine, part(old))))
        machine.settle([UNIT])
        before = carried(host)

        plan = planned(machine, part(new))
        machine.apply(request(plan))
        machine.settle([UNIT])

        after = carried(host)
        named = {change.what for change in plan.changes if change.action in {"create", "update", "delete"}}
        assert named == {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        assert planned(machine, part(new)).changes == ()


# Without shrinking: an example takes a tenth of a second, a hundred of them more than the quick tests may.
@settings(max_examples=4, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(old=trees, new=trees)
def test_a_push_changes_what_the_plan_names_and_leaves_nothing_to_plan(
    old: dict[str, tuple[Content, int, Pickup]], new: dict[str, tuple[Content, int, Pickup]]
) -> None:
    pushed(old, new)


@pytest.mark.full
@settings(max_examples=60, deadline=None)
@given(old=trees, new=trees)
def test_any_push_does(old: dict[str, tuple[Content, int, Pickup]], new: dict[str, tuple[Content, int, Pickup]]) -> None:
    pushed(old, new)
