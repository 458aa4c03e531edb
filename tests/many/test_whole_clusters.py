"""Whatever an inventory becomes and whatever was done to its hosts: a push does what the plan names, all of it and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hardway import preflight
from hardway.components import installed
from hardway.inventory import Inventory
from hardway.push import push, survey
from tests.many.site import Site, alone, inventory
from tests.remote.fakehost import SYSTEMCTL, FakeHost

# Units that do as they are told, so that the next look finds them so.
LIVING = (
    SYSTEMCTL
    + """
file="$HARDWAY_ROOT/units/$unit"; [ -e "$file" ] || exit 0
case $1 in
  start | restart | reload | reload-or-restart) sed -i 's/^ActiveState=.*/ActiveState=active/' "$file" ;;
  enable) sed -i 's/^UnitFileState=.*/UnitFileState=enabled/' "$file" ;;
  stop) sed -i 's/^ActiveState=.*/ActiveState=inactive/' "$file" ;;
esac
"""
)
FILES, UNITS = frozenset({"create", "update", "delete"}), frozenset({"start", "restart", "reload", "enable", "stop", "disable"})


def _ours(host: FakeHost) -> list[Path]:
    """Every file that a push has put there."""
    managed = (host.root / "var/lib/hardway/managed").read_text().splitlines()
    return [path for line in managed if (path := host.path(line.split("\t")[0])).exists()]


def deleted(host: FakeHost, number: int) -> None:
    """A file of ours is gone."""
    files = _ours(host)
    files[number % len(files)].unlink()


def altered(host: FakeHost, number: int) -> None:
    """Somebody has written to one."""
    files = _ours(host)
    with files[number % len(files)].open("ab") as file:
        file.write(b"\n")


def opened(host: FakeHost, number: int) -> None:
    """It has another mode."""
    files = _ours(host)
    files[number % len(files)].chmod(0o666)


def stray(host: FakeHost, number: int) -> None:
    """Something that an older push has put there, and nobody wants any more."""
    path = f"/etc/older/{number}"
    host.path(path).parent.mkdir(exist_ok=True)
    host.path(path).write_text("old")
    with (host.root / "var/lib/hardway/managed").open("a") as managed:
        managed.write(f"{path}\t-\t{hashlib.sha256(b'old').hexdigest()}\n")


def stopped(host: FakeHost, number: int) -> None:
    """A unit does not run."""
    _unit(host, number, ActiveState="inactive", SubState="dead")


def disabled(host: FakeHost, number: int) -> None:
    """A unit does not start at boot."""
    _unit(host, number, UnitFileState="disabled")


def _unit(host: FakeHost, number: int, **shown: str) -> None:
    units = sorted(path.name for path in (host.root / "units").iterdir())
    host.unit(units[number % len(units)], **shown)


def flagged(wanted: Inventory, number: int) -> Inventory:
    """A flag for one of the daemons."""
    daemon = ("etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubelet", "kube-proxy")[number % 6]
    return replace(wanted, flags={**wanted.flags, daemon: {"v": str(number % 4)}})


def iptables(wanted: Inventory, _: int) -> Inventory:
    return replace(wanted, proxy_mode="iptables")


def own_network(wanted: Inventory, _: int) -> Inventory:
    return replace(wanted, network="none")


def newer(wanted: Inventory, _: int) -> Inventory:
    return replace(wanted, versions=replace(wanted.versions, kubernetes="1.37.9", etcd="3.7.9"))


def labelled(wanted: Inventory, number: int) -> Inventory:
    hosts = tuple(replace(host, sans=(f"name-{number}.example.com",)) if "controller" in host.roles else host for host in wanted.hosts)
    return replace(wanted, hosts=hosts)


Harm = Callable[[FakeHost, int], None]
numbers = st.integers(0, 10_000)
harms = st.lists(st.tuples(st.sampled_from([deleted, altered, opened, stray, stopped, disabled]), numbers, numbers), max_size=6)
changes = st.lists(st.tuples(st.sampled_from([flagged, iptables, own_network, newer, labelled]), numbers), max_size=3)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The shipped inventory, on hosts that carry all of it."""
    with pytest.MonkeyPatch.context() as patch:
        alone(patch)
        patch.setattr(preflight, "findings", lambda _: ())  # the kernel and the programs are those of whoever runs the tests
        made = Site.made(tmp_path_factory.mktemp("whole"), inventory(2))
        for fake in made.fakes.values():
            fake.program("systemctl", LIVING)
        yield made


def copied(site: Site, base: Path) -> Site:
    """The same state/, and hosts of its own that carry the same."""
    for name in site.fakes:
        (base / name).mkdir()
    (base / "state").symlink_to(site.base / "state")
    return replace(site, base=base, fakes={name: FakeHost.copied(base / name, fake) for name, fake in site.fakes.items()})


def carried(host: FakeHost) -> dict[str, tuple[int, bytes]]:
    """Every file of the system with its mode and content."""
    tops = [host.path("/etc"), host.path("/usr"), host.path("/opt"), host.path("/var/lib/kubelet")]
    files = [path for top in tops if top.exists() for path in top.rglob("*") if path.is_file()]
    return {str(path).removeprefix(str(host.root)): (path.stat().st_mode & 0o7777, path.read_bytes()) for path in files}


def told(host: FakeHost) -> set[str]:
    """The units that systemd was told something of."""
    return {words[-1] for line in host.log() if (words := line.split()) and words[0] in UNITS}


def proved(site: Site, harmed: list[tuple[Harm, int, int]], wanted: Inventory) -> None:
    """Harm hosts, want something else, push: what has changed is what was named, and nothing is left to be named."""
    hosts = wanted.hosts
    for harm, where, number in harmed:
        harm(site.fakes[hosts[where % len(hosts)].name], number)
    before = {name: carried(fake) for name, fake in site.fakes.items()}
    changed = replace(site, inventory=wanted)
    with changed.cluster() as cluster:
        found = survey(cluster, site.programs)
        assert before == {name: carried(fake) for name, fake in site.fakes.items()}  # a look changes nothing
        push(cluster, found, lambda _: None)
        again = survey(cluster, site.programs)

    for plan in found.plans:
        fake, was = site.fakes[plan.host.name], before[plan.host.name]
        now = carried(fake)
        files = {change.what for change in plan.changes if change.action in FILES}
        assert files == {path for path in was.keys() | now.keys() if was.get(path) != now.get(path)}
        assert {change.what for change in plan.changes if change.action in UNITS} == told(fake)
        ours = {component.unit for component in installed(wanted, plan.host)}
        assert all("ActiveState=active" in (fake.root / "units" / unit).read_text() for unit in ours)
    assert [change for plan in again.plans for change in plan.changes] == []


def changed(wanted: Inventory, by: list[tuple[Callable[[Inventory, int], Inventory], int]]) -> Inventory:
    for change, number in by:
        wanted = change(wanted, number)
    return wanted


# Without shrinking, and few: an example takes seconds, for each of its hosts is looked at three times.
@settings(max_examples=2, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(harmed=harms, by=changes)
def test_a_push_does_what_the_plan_names_whatever_was_there(
    site: Site, harmed: list[tuple[Harm, int, int]], by: list[tuple[Callable[[Inventory, int], Inventory], int]]
) -> None:
    with TemporaryDirectory() as directory:
        proved(copied(site, Path(directory)), harmed, changed(site.inventory, by))


@pytest.mark.full
@settings(max_examples=60, deadline=None)
@given(harmed=harms, by=changes)
def test_any_push_does(
    site: Site, harmed: list[tuple[Harm, int, int]], by: list[tuple[Callable[[Inventory, int], Inventory], int]]
) -> None:
    with TemporaryDirectory() as directory:
        proved(copied(site, Path(directory)), harmed, changed(site.inventory, by))


HARMS: Mapping[str, Harm] = {harm.__name__: harm for harm in (deleted, altered, opened, stray, stopped, disabled)}


@pytest.mark.parametrize("name", HARMS)
def test_each_harm_is_found(site: Site, name: str, tmp_path: Path) -> None:
    """That the property above can fail: an example without a change would prove nothing."""
    mine = copied(site, tmp_path)
    HARMS[name](mine.fakes["controller-1"], 3)
    with mine.cluster() as cluster:
        found = survey(cluster, site.programs, some=mine.inventory.on("controller")[:1])
    assert found.changes
