"""Asking an operator: by a program, at a terminal, or not at all."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from hardway.errors import Mistake
from hardway.verbs.program.asking import ask

ROOT = Path(__file__).parents[2]
NO_TERMINAL = Path("/nowhere/tty")


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "askpass"
    path.write_text(f"#!/bin/sh\nprintf %s \"$1\" >{tmp_path}/asked\n[ ! -e {tmp_path}/no ] || exit 1\necho 'open sesame'\necho more\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_is_asked_where_there_is_no_terminal(program: str, tmp_path: Path) -> None:
    assert ask("the passphrase of k", {"SSH_ASKPASS": program}, NO_TERMINAL) == "open sesame"
    assert (tmp_path / "asked").read_text() == "the passphrase of k: "


def test_a_program_that_gives_no_answer_is_a_mistake(program: str, tmp_path: Path) -> None:
    (tmp_path / "no").touch()
    with pytest.raises(Mistake, match=r"^the passphrase of k is wanted, and .*askpass gave none; run it again$"):
        ask("the passphrase of k", {"SSH_ASKPASS": program}, NO_TERMINAL)


@pytest.mark.parametrize("environment", [{}, {"SSH_ASKPASS_REQUIRE": "never"}])
def test_without_program_and_terminal_it_is_a_mistake_and_no_hang(program: str, environment: dict[str, str]) -> None:
    named = {"SSH_ASKPASS": program} if environment else {}
    with pytest.raises(Mistake, match="there is no terminal to ask at; run it at a terminal, or name by SSH_ASKPASS"):
        ask("the password", {**named, **environment}, NO_TERMINAL)


@pytest.mark.parametrize(("require", "expected"), [("", "typed"), ("prefer", "open sesame"), ("force", "open sesame")])
def test_at_a_terminal_the_operator_is_asked_unless_the_program_is_preferred(program: str, require: str, expected: str) -> None:
    """On a terminal of a child's own."""
    code = (
        "import sys; from hardway.verbs.program.asking import ask\n"
        f"print('GOT', ask('the password', {{'SSH_ASKPASS': {program!r}, 'SSH_ASKPASS_REQUIRE': {require!r}}}))"
    )
    terminal, end = pty.openpty()
    argv = ["setsid", "--ctty", sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=end, stdout=end, stderr=end, cwd=ROOT):
        os.close(end)
        heard = b""
        while b"\n" not in heard.partition(b"GOT")[2]:
            asked = b"the password: " in heard
            heard += os.read(terminal, 1024)
            if b"the password: " in heard and not asked:
                os.write(terminal, b"typed\n")
    os.close(terminal)
    assert heard.partition(b"GOT ")[2].strip().decode() == expected
    assert heard.count(b"typed") == (expected == "typed")  # what is typed does not show
