from __future__ import annotations

from pathlib import Path

from hardway.lab.cgroups import own

VERSION_1 = """\
30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
31 25 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 25 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
33 25 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_a_group_lies_below_the_callers_own_in_each_hierarchy() -> None:
    cgroup = "9:name=systemd:/\n4:memory:/session/7\n1:cpu:/\n0::/\n"

    assert own(cgroup, VERSION_1) == tuple(
        map(Path, ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/memory/session/7", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"))
    )


def test_a_container_that_sees_only_its_part_of_a_hierarchy_uses_that() -> None:
    mounts = "31 25 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

    assert own("4:memory:/docker/abc/7\n", mounts) == (Path("/sys/fs/cgroup/memory/7"),)


def test_controllers_that_share_a_mount_share_a_group() -> None:
    mounts = "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"

    assert own("4:cpu,cpuacct:/a\n", mounts) == (Path("/sys/fs/cgroup/cpu,cpuacct/a"),)


def test_in_a_pure_version_2_tree_the_root_is_used_since_only_it_hands_controllers_on() -> None:
    mounts = "31 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"

    assert own("0::/user.slice/session-1.scope\n", mounts) == (Path("/sys/fs/cgroup"),)


def test_a_hierarchy_that_is_not_mounted_is_left_out() -> None:
    assert own("4:memory:/a\n2:rdma:/\n", "31 25 0:27 / /m rw - cgroup cgroup rw,memory\n") == (Path("/m/a"),)
