"""Whether KVM works on this machine. It may be there and hang, so a kernel is booted by it, against the clock."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

Accelerator = Literal["kvm", "tcg"]
DEVICE = Path("/dev/kvm")
BOOT = Path("/proc/sys/kernel/random/boot_id")
WITHIN = 15.0  # seconds; where KVM works it takes one or two


def accelerator(cache: Path, kernel: Path, tell: Callable[[str], None]) -> Accelerator:
    """What VMs are to be run by. The answer holds until this machine boots again."""
    why = _known(cache, kernel) if DEVICE.exists() else f"there is no {DEVICE}"
    tell(f"lab: VMs are emulated in software: {why}" if why else "lab: KVM works, and runs the VMs")
    return "tcg" if why else "kvm"


def fault(kernel: Path) -> str | None:
    """None if a kernel boots by KVM, until it misses a disk; else why KVM is of no use."""
    argv = [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults"),
        *("-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"),
    ]
    with tempfile.TemporaryFile() as said:
        qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            code = qemu.wait(WITHIN)
        except subprocess.TimeoutExpired:
            return f"KVM hangs: with it no kernel boots within {WITHIN:.0f} s"
        finally:
            qemu.kill()
            with suppress(subprocess.TimeoutExpired):
                qemu.wait(1)  # it may hang where no signal reaches it
        said.seek(0)
        text = said.read().decode(errors="replace")
    if code == 0 and "Linux version" in text:
        return None
    last = [line.strip() for line in text.splitlines() if line.strip()][-1:]
    return f"KVM fails: {''.join(last) or f'QEMU ended with {code}'}"


def _known(cache: Path, kernel: Path) -> str | None:
    """The fault, found once for each boot of this machine."""
    record, boot = cache / "kvm.json", BOOT.read_text().strip()
    with suppress(OSError, ValueError):
        known = json.loads(record.read_text())
        if known["boot"] == boot:
            return str(known["fault"]) if known["fault"] else None
    found = fault(kernel)
    part = record.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps({"boot": boot, "fault": found}))
    part.replace(record)
    return found
