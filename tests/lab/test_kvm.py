"""The guard against a KVM that is there and of no use, by programs that stand in for QEMU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hardway.lab import kvm

WORKS = 'echo "[    0.000000] Linux version 6.1.0"; echo "Kernel panic - not syncing: VFS: Unable to mount root fs"'
FAILS = 'echo "Could not access KVM kernel module: Permission denied" >&2; exit 1'
HANGS = "exec sleep 1000"


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that a test gives a body; it writes down that it ran, and how."""
    program = tmp_path / "bin" / "qemu-system-x86_64"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "kvm").touch()
    (tmp_path / "boot").write_text("one\n")
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")
    monkeypatch.setattr(kvm, "BOOT", tmp_path / "boot")
    return program


def behave(program: Path, body: str) -> None:
    log = program.parent / "log"
    log.unlink(missing_ok=True)
    program.write_text(f'#!/bin/sh\necho "$$ $*" >>"{log}"\n{body}\n')
    program.chmod(0o755)


def runs(program: Path) -> list[str]:
    log = program.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_kvm_by_which_a_kernel_boots_is_used(qemu: Path, tmp_path: Path) -> None:
    behave(qemu, WORKS)
    said: list[str] = []

    assert kvm.accelerator(tmp_path, Path("/image/vmlinuz"), said.append) == "kvm"

    assert said == ["lab: KVM works, and runs the VMs"]
    (run,) = runs(qemu)
    assert " -accel kvm " in run
    assert " -kernel /image/vmlinuz " in run


def test_one_that_hangs_is_noticed_and_ended_and_not_used(qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(qemu, HANGS)
    monkeypatch.setattr(kvm, "WITHIN", 1.0)
    said: list[str] = []

    assert kvm.accelerator(tmp_path, Path("vmlinuz"), said.append) == "tcg"

    assert said == ["lab: VMs are emulated in software: KVM hangs: with it no kernel boots within 1 s"]
    (run,) = runs(qemu)
    assert not Path("/proc", run.split()[0]).exists()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (FAILS, "KVM fails: Could not access KVM kernel module: Permission denied"),
        ("exit 0", "KVM fails: QEMU ended with 0"),
        (f"{WORKS}; exit 3", "KVM fails: Kernel panic - not syncing: VFS: Unable to mount root fs"),
    ],
)
def test_one_that_fails_is_told_by_its_last_words(qemu: Path, body: str, why: str) -> None:
    behave(qemu, body)

    assert kvm.fault(Path("vmlinuz")) == why


def test_the_answer_holds_until_the_machine_boots_again(qemu: Path, tmp_path: Path) -> None:
    for boot, body, answer in (("one", FAILS, "tcg"), ("one", WORKS, "tcg"), ("two", WORKS, "kvm"), ("two", FAILS, "kvm")):
        behave(qemu, body)
        (tmp_path / "boot").write_text(f"{boot}\n")
        assert kvm.accelerator(tmp_path, Path("vmlinuz"), print) == answer

    assert runs(qemu) == []


def test_a_machine_without_kvm_is_asked_nothing(qemu: Path, tmp_path: Path) -> None:
    behave(qemu, WORKS)
    kvm.DEVICE.unlink()
    said: list[str] = []

    assert kvm.accelerator(tmp_path, Path("vmlinuz"), said.append) == "tcg"

    assert said == [f"lab: VMs are emulated in software: there is no {kvm.DEVICE}"]
    assert runs(qemu) == []
