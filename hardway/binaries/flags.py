"""Whether programs take the flags of the inventory: asked here with --help behind them, it reads them and starts nothing."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from hardway.binaries.cache import Binary
from hardway.errors import Finding, Mistake
from hardway.inventory import Inventory

WITHIN = 20.0  # seconds that a program may take to read its flags
UNKNOWN = re.compile(r"unknown flag: |flag provided but not defined: ")  # pflag, and flag of the standard library
WRONG = re.compile(rf"(?:{UNKNOWN.pattern}|invalid argument |invalid value ).*")
NAMES = re.compile(r"^\s+(?:-\w, )?--?([a-z][\w.-]*)", re.MULTILINE)


def refuse_wrong(inventory: Inventory, programs: Mapping[str, Binary], cache: Path) -> None:
    """A Mistake with every flag that a program of this machine's kind does not know, or not with such a value.

    What a program has taken before is not asked again: `cache` keeps an empty file of that.
    """
    findings: list[Finding] = []
    for component, flags in inventory.flags.items():
        program = programs.get(component)
        if program and flags:
            findings += _asked(component, program, flags, cache / "flags")
    if findings:
        raise Mistake(*findings)


def _asked(component: str, program: Binary, flags: Mapping[str, str], taken: Path) -> Iterator[Finding]:
    words = {flag: f"--{flag}={value}" for flag, value in flags.items()}
    stamp = taken / hashlib.sha256("\0".join((program.sha256, *words.values())).encode()).hexdigest()
    if stamp.exists():
        return
    said = _said(program, *words.values())
    if said is None:
        return  # it cannot be run here: its host's start will tell, and goes back
    if said.returncode == 0:
        taken.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        return
    for flag, word in words.items():
        if (alone := _said(program, word)) and (wrong := _wrong(alone)):
            unknown = bool(UNKNOWN.match(wrong))
            near = get_close_matches(flag, _names(program), 1) if unknown else []
            yield Finding(
                where=f"flags.{component}.{flag}",
                what="there is no such flag" if unknown else wrong,
                next_step=f"did you mean {near[0]}?" if near else f"`{component} --help` shows what it takes",
            )


def _names(program: Binary) -> list[str]:
    said = _said(program)
    return NAMES.findall(said.stdout + said.stderr) if said else []


def _wrong(said: subprocess.CompletedProcess[str]) -> str | None:
    """What it does not take, in its words; None if it goes on to its help, or fails by something else."""
    found = said.returncode and WRONG.search(said.stderr + said.stdout)
    return found[0].rstrip('"').replace('\\"', '"') if found else None


def _said(program: Binary, *words: str) -> subprocess.CompletedProcess[str] | None:
    """What it says to flags and to --help; None if it cannot be run here."""
    ask = [str(program.path), *words, "--help"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, errors="replace", timeout=WITHIN, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
