"""How an operator is asked for what nobody else may read: at his terminal, or by the program that SSH_ASKPASS names."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from hardway.errors import Finding, LockedError, Mistake

TERMINAL = Path("/dev/tty")


def ask(question: str, environment: Mapping[str, str] = os.environ, terminal: Path = TERMINAL) -> str:
    """An answer that is shown nowhere; as for ssh, the program comes first where there is no terminal or SSH_ASKPASS_REQUIRE wants it."""
    program = environment.get("SSH_ASKPASS", "")
    wanted = environment.get("SSH_ASKPASS_REQUIRE", "")
    here = _opens(terminal)
    if program and wanted != "never" and (wanted in {"force", "prefer"} or not here):
        done = subprocess.run([program, f"{question}: "], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Mistake.at("", f"{question} is wanted, and {program} gave none", "run it again")
        return done.stdout.split("\n")[0]
    if not here:
        step = "run it at a terminal, or name by SSH_ASKPASS a program that prints it"
        raise LockedError(Finding(where="", what=f"{question} is wanted, and there is no terminal to ask at", next_step=step))
    return getpass.getpass(f"{question}: ")


def _opens(terminal: Path) -> bool:
    try:
        with terminal.open():
            return True
    except OSError:
        return False
