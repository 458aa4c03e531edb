"""The lab itself, with real hosts: what it gives, what it survives, what it leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.inventory import Endpoint, Host, Inventory, Networks
from hardway.lab import cgroups, hosts, network
from hardway.lab.machine import SETTINGS, Lab, Machine
from hardway.lab.place import Place
from hardway.lab.recipes import CONTAINER

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]


@dataclass
class Trial:
    """A small lab, and what was said of it."""

    inventory: Inventory
    state: Path
    said: list[str] = field(default_factory=list)

    def up(self, *, owner: int | None = None) -> None:
        hosts.up(self.inventory, self.state, self.said.append, owner=owner or os.getpid())

    def down(self) -> None:
        hosts.down(self.inventory, self.state, self.said.append)

    def with_hosts(self, count: int) -> Trial:
        return Trial(inventory(self.inventory.cluster, network_of(self.inventory), count), self.state)

    def ssh(self, command: str, host: int = 0) -> str:
        argv = [*hosts.ssh(self.inventory.hosts[host], self.state), command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def lab(self) -> Lab:
        lab = Machine().lab(self.inventory.cluster)
        assert lab is not None
        return lab

    def place(self, host: int = 0) -> Place:
        return Place(lab=self.lab, name=self.inventory.hosts[host].name)

    def states(self) -> list[str]:
        return [host.state for host in hosts.status(self.inventory, self.state)]

    def wait(self, ask: Callable[[], bool], within: float = 60) -> None:
        deadline = time.monotonic() + within
        while not ask():
            assert time.monotonic() < deadline, self.place().directory.joinpath("console.log").read_text()
            time.sleep(0.05)


def network_of(inventory: Inventory) -> IPv4Network:
    assert inventory.networks.host_cidr is not None
    return inventory.networks.host_cidr


def inventory(cluster: str, cidr: IPv4Network, count: int) -> Inventory:
    first = cidr.network_address + 11
    return Inventory(
        cluster=cluster,
        hosts=tuple(Host(name=f"controller-{n + 1}", address=first + n, roles=frozenset({"controller"})) for n in range(count)),
        networks=Networks(service_cidr=IPv4Network("10.32.0.0/24"), pod_cidr=IPv4Network("10.200.0.0/16"), host_cidr=cidr),
        endpoint=Endpoint(loadbalancer="external", address=first, name="api.example.test"),
        lab="nspawn",
    )


def free_network(number: int) -> IPv4Network:
    """A network that nothing on this machine reaches, another one for each number."""
    routes = network.ip("-json", "-4", "route", "show", "table", "main")
    candidates = (IPv4Network(f"10.241.{(os.getpid() + number * 50 + n) % 250}.0/24") for n in range(50))
    return next(candidate for candidate in candidates if network.overlapping(candidate, routes, "") is None)


@pytest.fixture(scope="module", autouse=True)
def reaped() -> None:
    hosts.reap(lambda _: None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """A lab of two hosts for tests that break nothing."""
    trial = Trial(inventory(f"lab-{os.getpid()}", free_network(0), 2), tmp_path_factory.mktemp("state") / "a,b:c d%h")
    try:
        trial.up()
        yield trial
    finally:
        trial.down()


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Trial]:
    """A lab of one host for tests that break it; not yet up."""
    trial = Trial(inventory(f"one-{os.getpid()}", free_network(1), 1), tmp_path / "state")
    try:
        yield trial
    finally:
        trial.down()


def test_a_host_is_an_ordinary_debian_machine(shared: Trial) -> None:
    assert shared.ssh("systemctl is-system-running --wait") == "running"
    assert shared.ssh("cat /proc/1/comm; hostname; . /etc/os-release; echo $VERSION_ID") == "systemd\ncontroller-1\n12"
    assert shared.ssh("systemctl is-enabled haproxy.service || true") == "masked"
    assert abs(int(shared.ssh("date +%s")) - time.time()) < 60


def test_each_host_has_what_components_need(shared: Trial) -> None:
    shared.ssh("command -v haproxy nft iptables conntrack ip modprobe sysctl update-ca-certificates")
    assert shared.ssh("ip -4 -brief address show dev eth0").split()[2] == f"{shared.inventory.hosts[0].address}/24"
    assert f"default via {network_of(shared.inventory).network_address + 1} " in shared.ssh("ip route")


def test_hosts_reach_each_other_by_name(shared: Trial) -> None:
    assert shared.ssh("getent hosts controller-2 api.example.test").split() == [
        *(str(shared.inventory.hosts[1].address), "controller-2"),
        *(str(shared.inventory.hosts[0].address), "api.example.test"),
    ]
    assert shared.ssh("exec 3<>/dev/tcp/controller-2/22; head -c 4 <&3") == "SSH-"


def test_an_address_of_the_lab_is_this_machines(shared: Trial) -> None:
    with socket.socket() as server:
        server.bind((str(IPv4Address(network_of(shared.inventory).network_address + 1)), 0))
        server.listen()
        shared.ssh(f"exec 3<>/dev/tcp/{server.getsockname()[0]}/{server.getsockname()[1]}")


def test_a_file_can_be_linked_out_of_the_store_and_containerd_has_a_real_disk(shared: Trial) -> None:
    shared.ssh("mkdir -p /var/lib/hardway/store && echo x >/var/lib/hardway/store/f && ln /var/lib/hardway/store/f /usr/local/bin/f")
    assert shared.ssh("stat --file-system --format=%T /var/lib/containerd") != "overlayfs"


def test_containerd_can_make_control_groups_and_nobody_before_it(shared: Trial) -> None:
    group = "/sys/fs/cgroup/memory/kubepods"
    if shared.ssh("test -d /sys/fs/cgroup/memory && echo 1 || echo 2") != "1":
        pytest.skip("control groups of version 2 are writable from the start")
    assert shared.ssh(f"mkdir {group} 2>&1 || true").endswith("Read-only file system")
    unit = f"[Service]\\nType=oneshot\\nExecStart=/bin/mkdir {group}\\n"

    shared.ssh(f"printf '{unit}' >/etc/systemd/system/containerd.service; systemctl daemon-reload; systemctl start containerd.service")

    assert shared.ssh(f"ls -d {group}") == group


def test_two_hosts_have_different_machine_ids_and_no_shared_control_group(shared: Trial) -> None:
    assert shared.ssh("cat /etc/machine-id", 0) != shared.ssh("cat /etc/machine-id", 1)
    for group, other in zip(shared.place(0).groups, shared.place(1).groups, strict=True):
        mine, theirs = cgroups.processes(group), cgroups.processes(other)
        assert mine, group
        assert theirs, other
        assert not mine & theirs


def test_known_hosts_has_every_host_and_the_keys_are_private(shared: Trial) -> None:
    lines = (shared.state / "known_hosts").read_text().splitlines()

    assert [line.split()[:2] for line in lines] == [[str(host.address), "ssh-ed25519"] for host in shared.inventory.hosts]
    assert shared.state.stat().st_mode & 0o777 == 0o700
    assert hosts.key(shared.state).stat().st_mode & 0o777 == 0o600


def test_a_second_up_starts_nothing_and_writes_nothing(shared: Trial) -> None:
    def look() -> tuple[object, ...]:
        keepers = [shared.place(n).keeper for n in range(2)]
        return keepers, (shared.state / "known_hosts").stat(), shared.ssh("systemctl show --value --property=UserspaceTimestampMonotonic")

    before = look()
    shared.up()

    assert look() == before


def test_labs_run_side_by_side_but_not_on_one_network(shared: Trial, single: Trial, tmp_path: Path) -> None:
    single.up()
    assert single.states() == ["up"]
    assert shared.states() == ["up", "up"]

    overlapping = Trial(inventory("lab-overlap", network_of(shared.inventory), 1), tmp_path / "other")
    with pytest.raises(Mistake, match=rf"overlaps .* of the lab {shared.inventory.cluster}; choose another"):
        overlapping.up()
    overlapping.down()

    single.down()
    assert shared.ssh("true") == ""


def test_a_network_that_the_machine_reaches_already_is_refused(single: Trial) -> None:
    network.ip("link", "add", "hw-test-taken", "type", "bridge")
    try:
        network.ip("address", "add", f"{network_of(single.inventory).network_address + 77}/30", "dev", "hw-test-taken")
        network.ip("link", "set", "hw-test-taken", "up")
        with pytest.raises(Mistake, match=r"networks\.host_cidr: .* overlaps the route .*hw-test-taken"):
            single.up()
    finally:
        network.remove("hw-test-taken")


def test_a_lab_of_another_directory_is_not_touched(shared: Trial, tmp_path: Path) -> None:
    stranger = Trial(shared.inventory, tmp_path / "clone")

    with pytest.raises(Mistake, match="was made from"):
        stranger.up()
    with pytest.raises(Mistake, match="was made from"):
        stranger.down()
    assert stranger.states() == ["down", "down"]
    assert shared.states() == ["up", "up"]


def test_a_reboot_comes_back_with_the_disk_and_a_clean_network(single: Trial) -> None:
    single.up()
    keeper = single.place().keeper
    single.ssh("echo kept >/root/file; ip link add left type bridge")
    boot = single.ssh("systemctl show --value --property=UserspaceTimestampMonotonic")

    subprocess.run([*hosts.ssh(single.inventory.hosts[0], single.state), "systemctl reboot"], check=False, capture_output=True)

    log = single.place().directory / "console.log"
    single.wait(lambda: "lab: reboot" in log.read_text() and single.states() == ["up"])
    assert single.ssh("systemctl show --value --property=UserspaceTimestampMonotonic") != boot
    assert single.ssh("cat /root/file; ls /sys/class/net | tr '\\n' ' '") == "kept\neth0 lo"
    assert single.place().keeper == keeper


def test_a_host_that_was_switched_off_is_started_by_the_next_up(single: Trial) -> None:
    single.up()
    single.ssh("echo kept >/root/file; sync; nohup systemctl poweroff >/dev/null 2>&1 &")
    single.wait(lambda: single.states() == ["down"])

    single.up()

    assert single.ssh("cat /root/file") == "kept"


def test_a_host_whose_keeper_died_alone_is_started_once_more_not_twice(single: Trial) -> None:
    single.up()
    container = single.place()
    assert container.keeper is not None
    os.kill(container.keeper.pid, signal.SIGKILL)
    single.wait(lambda: container.keeper is None)
    orphans = cgroups.processes(container.groups[0])
    assert orphans

    single.up()

    assert not orphans & cgroups.processes(container.groups[0])
    assert single.ssh("hostname") == "controller-1"


def test_what_the_machines_own_reboot_leaves_is_booted_again(single: Trial) -> None:
    single.up()
    single.ssh("echo kept >/root/file; sync")
    lab, container = single.lab, single.place()
    container.stop()
    for group in lab.cgroups:
        cgroups.remove(group)
    network.remove(network.device(lab.cluster))
    shutil.rmtree(Machine().records(lab.cluster))  # all of /run is gone; the directory state/ is not

    single.up()

    assert single.ssh("cat /root/file") == "kept"


def test_a_bridge_that_was_removed_is_made_again_and_joined(single: Trial) -> None:
    single.up()
    network.remove(network.device(single.inventory.cluster))
    keeper = single.place().keeper

    single.up()

    assert single.ssh("hostname") == "controller-1"
    assert single.place().keeper == keeper


def test_a_lab_whose_state_was_deleted_is_made_anew_and_removed_whole(single: Trial) -> None:
    single.up()
    shutil.rmtree(single.state)

    single.up()
    assert single.ssh("hostname") == "controller-1"

    shutil.rmtree(single.state)
    single.down()
    assert not single.state.exists()
    assert traces(single) == []


def test_a_host_whose_image_was_lost_with_the_cache_boots_from_a_new_one(
    single: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = hosts.cache() / CONTAINER.digest()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hosts.cache().mkdir(parents=True)
    subprocess.run(["cp", "-a", image, hosts.cache()], check=True)
    single.up()
    single.ssh("echo kept >/root/file; sync")
    shutil.rmtree(hosts.cache())
    hosts.cache().mkdir(parents=True)
    subprocess.run(["cp", "-a", image, hosts.cache()], check=True)

    single.up()

    assert single.ssh("cat /root/file") == "kept"


def test_a_new_neighbour_is_known_to_a_running_host(single: Trial) -> None:
    single.up()
    keeper = single.place().keeper
    two = single.with_hosts(2)

    two.up()

    assert single.ssh("getent hosts controller-2").split()[1] == "controller-2"
    assert single.place().keeper == keeper

    single.up()
    assert "controller-2: is no longer in the inventory, and left alone; `lab.down` removes it" in single.said
    assert [host.name for host in hosts.status(single.inventory, single.state)] == ["controller-1", "controller-2"]


def test_an_up_that_is_killed_is_finished_by_the_next(single: Trial) -> None:
    program = (
        "import sys; sys.path.insert(0, 'tests/lab')\n"
        "from pathlib import Path; from ipaddress import IPv4Network; import test_nspawn as t\n"
        "name, cidr, state = sys.argv[1:]\n"
        "t.hosts.up(t.inventory(name, IPv4Network(cidr), 1), Path(state), print)\n"
    )
    argv = [sys.executable, "-c", program, single.inventory.cluster, str(network_of(single.inventory)), str(single.state)]
    for moment in ("lab/id_ed25519", "lab/hosts/controller-1/settings.json", "lab/hosts/controller-1/inode"):
        child = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
        while not (single.state / moment).exists():
            assert child.poll() is None, moment
            time.sleep(0.001)
        child.kill()
        child.wait()

    single.up()

    assert single.ssh("hostname") == "controller-1"
    assert len([pid for pid in cgroups.processes(single.place().groups[0]) if comm(pid) == "systemd-nspawn"]) == 1


def test_a_lab_whose_owner_is_gone_is_reaped_and_no_other(single: Trial, shared: Trial) -> None:
    owner = subprocess.Popen(["sleep", "1000"])
    single.up(owner=owner.pid)
    hosts.reap(single.said.append)
    assert single.states() == ["up"]

    owner.kill()
    owner.wait()
    hosts.reap(single.said.append)

    assert traces(single) == []
    assert shared.states() == ["up", "up"]


def test_a_host_that_cannot_boot_is_told_with_its_last_words(single: Trial, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "host.sh"
    broken.write_text((ROOT / "hardway/lab/host.sh").read_text().replace("stat --format", "echo no such luck; exit 7; stat --format"))
    monkeypatch.setattr("hardway.lab.place.KEEPER", broken)

    with pytest.raises(Mistake, match=r"controller-1: does not boot: .*no such luck"):
        single.up()


def test_a_directory_on_an_overlay_gets_a_copy_instead(single: Trial, tmp_path: Path) -> None:
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"], check=True)
    single.state = tmp_path / "merged" / "state"
    try:
        single.up()
        assert (single.place().directory / "copy").is_dir()
        assert single.ssh("systemctl is-system-running --wait") == "running"
        single.ssh("mkdir -p /var/lib/hardway/store && echo x >/var/lib/hardway/store/f && ln /var/lib/hardway/store/f /usr/local/bin/f")
        single.down()
    finally:
        subprocess.run(["umount", tmp_path / "merged"], check=True)


def test_down_leaves_no_trace_and_a_second_one_does_nothing(single: Trial) -> None:
    before = mounts(), links(), settings()
    single.up()
    single.ssh(
        "mkdir /var/lib/containerd/x; chmod 0 /var/lib/containerd/x; touch /root/x; sysctl -q -w vm.overcommit_memory=1 kernel.panic=11"
    )
    known = (single.state / "known_hosts").read_text()
    others = len(Machine().labs()) > 1

    single.down()

    assert traces(single) == []
    assert (mounts(), links()) == before[:2]
    if not others:
        assert settings() == before[2]
    said = list(single.said)
    single.down()
    assert single.said == said

    single.up()  # the hosts are new, their keys are not
    assert (single.state / "known_hosts").read_text() == known


def traces(trial: Trial) -> list[str]:
    """Whatever of a lab is left on this machine."""
    cluster = trial.inventory.cluster
    devices = {network.device(cluster), *(network.device(cluster, f"controller-{n}") for n in (1, 2))}
    processes = [
        pid
        for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        if any(name in argv(pid) for name in devices)
    ]
    left = [path for path in (Machine().records(cluster), trial.state / "lab" / "hosts") if path.exists()]
    groups = [path / f"hardway-{cluster}" for path in cgroups.places("") if (path / f"hardway-{cluster}").exists()]
    return [*map(str, [*processes, *left, *groups]), *sorted(devices & links()), *(line for line in mounts() if str(trial.state) in line)]


def argv(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it was one of the host's that come and go
        return ""


def mounts() -> list[str]:
    return sorted(Path("/proc/self/mounts").read_text().splitlines())


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def settings() -> dict[str, str]:
    return {name: Path("/proc/sys", name).read_text() for name in SETTINGS if Path("/proc/sys", name).exists()}
