"""What an operator sees: results on standard output, the narration on standard error; plain lines without a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardway.errors import Finding, Mistake

if TYPE_CHECKING:  # rich takes 0.06 s to import; `./inv --list` does without
    from rich.console import Console as Rich
    from rich.status import Status

QUIET = 10.0  # seconds between two lines of passing progress, where there is no terminal to redraw


def out(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")


def err(text: str) -> None:
    """Print a line of the narration."""
    sys.stdout.flush()  # where both go to one file, they keep their order
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def mistake(error: Mistake) -> None:
    """Print each finding on one line."""
    for finding in error.findings:
        err("".join(c if c.isprintable() else "?" for c in f"error: {finding}"))  # what a host or a file says moves no cursor


class Console:
    """Prints for the verbs; colours only on a terminal, and never with NO_COLOR."""

    def __init__(self) -> None:
        from rich.console import Console as Rich

        self._out = _rich(Rich, stderr=False)
        self._err = _rich(Rich, stderr=True)
        self._status: Status | None = None

    def result(self, text: str, style: str = "") -> None:
        """Print what the operator asked for, as it is."""
        self._out.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def json(self, value: Any, where: str = "-") -> None:
        """Give a value to programs: `-` is standard output, anything else a file."""
        text = json.dumps(value, indent=2)
        if where == "-":
            out(text)
            return
        try:
            Path(where).write_text(f"{text}\n")
        except OSError as error:
            raise Mistake.at(where, f"cannot be written: {error.strerror}") from None

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows below the names of their columns."""
        cells = [[str(cell) for cell in row] for row in rows]
        if not self._out.is_terminal:  # for a program that reads it: nothing folded or cut
            widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
            for line in [columns, *cells]:
                out("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
            return
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")  # nothing is cut
        for line in cells:
            table.add_row(*line)
        self._out.print(table)

    def tell(self, text: str, style: str = "") -> None:
        """Narrate in one line."""
        sys.stdout.flush()
        self._err.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def warn(self, finding: Finding) -> None:
        """Narrate what is allowed and seldom meant."""
        from hardway.verbs.program.hosts import shortened

        where = shortened(finding.where.split(", "))  # of a hundred hosts nobody wants all the names
        self.tell(f"warning: {replace(finding, where=where)}", style="yellow")

    def ask(self, question: str) -> str:
        """Ask for what nobody else may read."""
        from hardway.verbs.program.asking import ask

        if not self._status:
            return ask(question)
        self._status.stop()  # it would draw over the question
        try:
            return ask(question)
        finally:
            self._status.start()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Narrate a long step: what happens in it is told to the Step, its time at the end."""
        began = time.monotonic()
        if self._err.is_terminal:
            sys.stdout.flush()
            with self._err.status(_escaped(title)) as self._status:
                yield Step(console=self, title=title, status=self._status)
            self._status = None
        else:
            self.tell(f"* {title}")
            yield Step(console=self, title=title)
        self.tell(f"* {title}: {time.monotonic() - began:.1f} s", style="green" if self._err.is_terminal else "")


@dataclass(slots=True, kw_only=True)
class Step:
    """A long step under way. Called with a line, it keeps it; `now` shows what will be replaced."""

    console: Console
    title: str
    status: Status | None = None
    shown: float = field(default_factory=time.monotonic)

    def __call__(self, text: str) -> None:
        self.console.tell(f"  {text}")

    def now(self, text: str) -> None:
        """Show passing progress, such as a percentage."""
        if self.status:
            self.status.update(_escaped(f"{self.title}: {text}"))
        elif time.monotonic() - self.shown >= QUIET:
            self.shown = time.monotonic()
            self.console.tell(f"  {text}")


def _rich(rich: type[Rich], *, stderr: bool) -> Rich:
    return rich(stderr=stderr, highlight=False, markup=False, emoji=False)


def _escaped(text: str) -> str:
    from rich.markup import escape  # a status reads markup, and a host's message may hold brackets

    return escape(text)
