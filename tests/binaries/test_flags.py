"""Flags are asked of the programs themselves, once, before any host is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from hardway.binaries.cache import Binary
from hardway.binaries.flags import refuse_wrong
from hardway.errors import Mistake
from hardway.inventory import load

INVENTORY = load(Path(__file__).parents[2] / "inventory.yaml")
# As pflag and, for etcd, Go's own package read flags: one after the other, up to the first that is wrong.
PFLAG = """#!/bin/sh
echo "$*" >>"$0.log"
for word; do
  case $word in
  --help) printf 'Flags:\\n  -v, --v Level   number\\n      --kube-api-qps float32   number\\n'; exit 0 ;;
  --v=[0-9] | --kube-api-qps=*) ;;
  --v=*) echo "Error: invalid argument \\"${word#*=}\\" for \\"-v, --v\\" flag: no" >&2; exit 1 ;;
  *) echo "Error: unknown flag: ${word%%=*}" >&2; exit 1 ;;
  esac
done
"""
KUBELET = """#!/bin/sh
[ "$1" = --help ] || {
  echo 'E1128 run.go:72] "command failed" err="failed to parse: invalid argument \\"x\\" for \\"-v, --v\\" flag: no"'; exit 1; }
"""
ETCD = """#!/bin/sh
case $1 in --help) echo "  --snapshot-count '10000'" ;; *) echo "flag provided but not defined: -${1#--}"; exit 2 ;; esac
"""


def program(directory: Path, name: str, text: str) -> Binary:
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Binary(name=name, version="1", arch="amd64", sha256=sha256, size=len(text), path=path, source="a test", origin="a test")


def refused(directory: Path, name: str, text: str, **flags: str) -> list[str]:
    one = program(directory, name, text)
    try:
        refuse_wrong(
            replace(INVENTORY, flags={name: {flag.replace("_", "-"): value for flag, value in flags.items()}}), {name: one}, directory
        )
    except Mistake as mistake:
        return [str(finding) for finding in mistake.findings]
    return []


def test_all_flags_that_are_wrong_are_told_with_what_was_meant(tmp_path: Path) -> None:
    assert refused(tmp_path, "kube-scheduler", PFLAG, kube_api_pqs="5", v="x", zzz="1") == [
        "flags.kube-scheduler.kube-api-pqs: there is no such flag; did you mean kube-api-qps?",
        'flags.kube-scheduler.v: invalid argument "x" for "-v, --v" flag: no; `kube-scheduler --help` shows what it takes',
        "flags.kube-scheduler.zzz: there is no such flag; `kube-scheduler --help` shows what it takes",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("kubelet", KUBELET, 'flags.kubelet.v: invalid argument "x" for "-v, --v" flag: no; `kubelet --help` shows what it takes'),
        ("etcd", ETCD, "flags.etcd.snapshot-cuont: there is no such flag; did you mean snapshot-count?"),
    ],
)
def test_programs_that_say_it_otherwise_are_understood(tmp_path: Path, name: str, text: str, said: str) -> None:
    assert refused(tmp_path, name, text, **({"v": "x"} if name == "kubelet" else {"snapshot_cuont": "1"})) == [said]


def test_what_was_taken_is_not_asked_again(tmp_path: Path) -> None:
    log = tmp_path / "kube-scheduler.log"
    for value in ("1", "1", "2"):
        assert refused(tmp_path, "kube-scheduler", PFLAG, v=value) == []

    assert log.read_text().splitlines() == ["--v=1 --help", "--v=2 --help"]
    assert refused(tmp_path, "kube-scheduler", PFLAG, v="x")
    assert refused(tmp_path, "kube-scheduler", PFLAG, v="x")  # and what was refused is


@pytest.mark.parametrize("text", ["\x7fELF of another machine", "#!/bin/sh\necho of no use >&2; exit 1\n"])
def test_a_program_that_cannot_say_it_here_stops_nothing(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, "kube-scheduler", text, anything="1") == []
    assert not (tmp_path / "flags").exists()  # nor is it taken to have said yes


def test_without_flags_of_ones_own_nothing_is_asked(tmp_path: Path) -> None:
    refuse_wrong(INVENTORY, {"kube-scheduler": program(tmp_path, "kube-scheduler", PFLAG)}, tmp_path)

    assert not (tmp_path / "kube-scheduler.log").exists()
