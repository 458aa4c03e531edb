"""The passphrase of sealed keys and of backups: from a file, a program, or typed; never in an argument or a child's environment."""

from __future__ import annotations

import getpass
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hardway.errors import Finding, LockedError, Mistake

FILE, ASKPASS = "HARDWAY_PASSPHRASE_FILE", "HARDWAY_ASKPASS"
SHORTEST = 12  # of a new one: whoever has the file may guess as long as he likes


def _typed(prompt: str) -> str | None:
    """What is typed at the terminal, unseen; None if there is no terminal."""
    return getpass.getpass(prompt) if sys.stdin.isatty() and sys.stderr.isatty() else None


@dataclass(slots=True, kw_only=True)
class Passphrase:
    """Asked for once a run, at the first need."""

    file: str = ""  # that --passphrase-file names
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    typed: Callable[[str], str | None] = field(default=_typed, repr=False)
    _asking: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _given: bytes = field(default=b"", init=False, repr=False)

    def __call__(self, what: str) -> bytes:
        """The passphrase of what is locked."""
        with self._asking:  # checks that run side by side ask once
            if not self._given:
                self._given = self._found(f"passphrase of {what}: ", what)
            return self._given

    def new(self, what: str) -> bytes:
        """One to lock something with; typed twice, if it is typed."""
        given = self(what)
        if len(given) < SHORTEST:
            raise Mistake.at(
                "passphrase", f"it has less than {SHORTEST} characters", "take a longer one, such as five words picked by chance"
            )
        if not self._written and (self.typed("the same again: ") or "").encode() != given:
            raise Mistake.at("passphrase", "the two that were typed differ", "try again")
        return given

    @property
    def _written(self) -> str:
        """Where it comes from, if not from the terminal."""
        return self.file or self.environment.get(FILE, "") or self.environment.get(ASKPASS, "")

    def _found(self, prompt: str, what: str) -> bytes:
        if path := self.file or self.environment.get(FILE, ""):
            given, where = _read(Path(path)), path
        elif program := self.environment.get(ASKPASS, ""):
            given, where = _asked(program, prompt), program
        else:
            typed = self.typed(prompt)
            if typed is None:
                step = f"give its passphrase by --passphrase-file, by {FILE} or {ASKPASS}, or at a terminal"
                raise LockedError(Finding(where=what, what="it is sealed, and no passphrase is at hand", next_step=step))
            given, where = typed.encode(), "passphrase"
        line = given.split(b"\n")[0].rstrip(b"\r")
        if not line:
            raise Mistake.at(where, "it gives no passphrase", "its first line is what counts")
        return line


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                what = f"others than its owner have access (mode {mode & 0o7777:04o})"
                raise Mistake.at(str(path), what, f"look who could have read it, then `chmod go= {path}`")
            return file.readline(4096)
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be read: {error.strerror}") from None


def _asked(program: str, prompt: str) -> bytes:
    try:
        done = subprocess.run([program, prompt], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise Mistake.at(program, f"cannot be run: {error.strerror}", f"let {ASKPASS} name a program that prints the passphrase") from None
    if done.returncode:
        raise Mistake.at(program, f"it ended with {done.returncode}, and gave no passphrase")
    return done.stdout
