"""The passphrase of sealed keys and of backups: from a file, from a program or typed; never in an argument or a child's environment."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hardway.errors import Finding, LockedError, Mistake
from hardway.state import loose

FILE = "HARDWAY_PASSPHRASE_FILE"
SHORTEST = 12  # of a new one: whoever has the file may guess as long as he likes


def nobody(question: str) -> str:
    """For where nobody is to be asked."""
    raise LockedError(Finding(where="", what=f"{question} is wanted"))


@dataclass(slots=True, kw_only=True)
class Passphrase:
    """Asked for once a run, at the first need."""

    file: str = ""  # that --passphrase-file names
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    ask: Callable[[str], str] = field(default=nobody, repr=False)  # at the terminal, or by a program
    _asking: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _given: bytes = field(default=b"", init=False, repr=False)

    def __call__(self, what: str) -> bytes:
        """The passphrase of what is locked."""
        with self._asking:  # checks that run side by side ask once
            if not self._given:
                self._given = self._found(f"the passphrase of {what}")
            return self._given

    def new(self, what: str) -> bytes:
        """One to lock something with; asked for twice, if it is in no file."""
        given = self(what)
        if len(given) < SHORTEST:
            step = "take a longer one, such as five words picked by chance"
            raise Mistake.at("passphrase", f"it has less than {SHORTEST} characters", step)
        if not self._named and self.ask("the same passphrase again").encode() != given:
            raise Mistake.at("passphrase", "the two that were given differ", "try again")
        return given

    @property
    def _named(self) -> str:
        """The file that holds it, if one is named."""
        return self.file or self.environment.get(FILE, "")

    def _found(self, question: str) -> bytes:
        if self._named:
            given = _read(Path(self._named)).split(b"\n")[0].rstrip(b"\r")
        else:
            try:
                given = self.ask(question).encode()
            except LockedError as error:
                step = f"give it by --passphrase-file or {FILE}, at a terminal, or by the program that SSH_ASKPASS names"
                raise LockedError(*(Finding(where=one.where, what=one.what, next_step=step) for one in error.findings)) from None
        if not given:
            raise Mistake.at(self._named or "passphrase", "it is empty", "the first line of a file is what counts" if self._named else "")
        return given


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and (finding := loose(path, mode)):
                raise Mistake(finding)
            return file.readline(4096)
    except OSError as error:
        raise Mistake.at(str(path), f"cannot be read: {error.strerror}") from None
