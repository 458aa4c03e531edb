"""The file for the textfile collector: its format, and that nobody reads half of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hardway.certs.prometheus import _escaped, exposition
from hardway.certs.public import write
from hardway.certs.report import Report
from hardway.desired import Shown
from hardway.errors import Mistake
from tests.certs.conftest import FakeCluster

Ask = Callable[..., Report]
LINE = re.compile(r'[a-z_]+\{([a-z_]+="[^"]*",?)+\} [0-9.e+]+')


def test_every_line_is_a_comment_or_a_sample(report: Ask) -> None:
    lines = exposition(report()).splitlines()

    assert all(line.startswith(("# HELP ", "# TYPE ")) or LINE.fullmatch(line) for line in lines)
    assert len({line for line in lines if not line.startswith("#")}) == len([line for line in lines if not line.startswith("#")])


def test_what_differs_is_zero_and_what_is_not_known_is_absent(report: Ask, cluster: FakeCluster) -> None:
    found = report()
    cluster.other["controller-1", 6443] = Shown(serial=1, issuer="x", not_after=found.asked)
    cluster.closed = {10259}
    cluster.dead = {"controller-3"}

    text = exposition(report())

    served = {
        line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("hardway_certificate_served")
    }
    values = {(re.findall('host="([^"]*)"', line)[0], re.findall('port="([^"]*)"', line)[0]): value for line, value in served.items()}
    assert values == {(f"controller-{n}", port): "1" for n in (1, 2) for port in ("6443", "2379", "2380", "10257")} | {
        ("controller-1", "6443"): "0",
        ("worker-1", "10250"): "1",
        ("worker-2", "10250"): "1",
    }
    assert 'hardway_certificates_wrong{cluster="kit"} 1\n' in text
    assert 'hardway_certificates_unknown{cluster="kit"} 3\n' in text


def test_a_label_is_escaped() -> None:
    assert _escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


def test_the_file_is_replaced_whole_and_can_be_read_by_the_collector(report: Ask, tmp_path: Path) -> None:
    path = tmp_path / "hardway.prom"
    path.write_text("old")
    with path.open() as reading:
        write(path, exposition(report()))

        assert reading.read() == "old"  # who has begun to read goes on with the old one
    assert path.read_text() == exposition(report())
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith("prom")] == ["hardway.prom"]


def test_a_place_that_cannot_be_written_is_a_mistake(report: Ask, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="cannot be written"):
        write(tmp_path / "none" / "x.prom", exposition(report()))
