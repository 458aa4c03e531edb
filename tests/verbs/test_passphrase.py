from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hardway.errors import LockedError, Mistake
from hardway.verbs.program.asking import ask
from hardway.verbs.program.passphrase import FILE, Passphrase

LONG = "correct horse battery"


def answering(*answers: str) -> Callable[[str], str]:
    left = list(answers)
    return lambda _: left.pop(0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{LONG}\nnot this\n")
    path.chmod(0o600)
    return path


def test_a_file_that_is_named_comes_first_and_its_first_line_counts(file: Path) -> None:
    assert Passphrase(file=str(file), environment={FILE: "/absent"})("a key") == LONG.encode()
    assert Passphrase(environment={FILE: str(file)}).new("a backup") == LONG.encode()


def test_a_pipe_is_as_good_as_a_file() -> None:
    read, write = os.pipe()
    os.write(write, b"from a password manager\n")
    os.close(write)
    try:
        assert Passphrase(file=f"/dev/fd/{read}")("a key") == b"from a password manager"
    finally:
        os.close(read)


def test_a_file_that_others_can_read_is_refused(file: Path) -> None:
    file.chmod(0o640)

    with pytest.raises(Mistake, match=r"mode 0640.*chmod go= "):
        Passphrase(file=str(file))("a key")


@pytest.mark.parametrize("text", ["", "\n", "\nsecond"])
def test_nothing_is_no_passphrase(file: Path, text: str) -> None:
    file.write_text(text)

    with pytest.raises(Mistake, match="it is empty"):
        Passphrase(file=str(file))("a key")


def test_it_is_asked_for_once_however_often_it_is_needed() -> None:
    passphrase = Passphrase(environment={}, ask=answering(LONG))

    assert [passphrase("one key"), passphrase("another")] == [LONG.encode()] * 2


def test_a_new_one_is_asked_for_twice_and_has_to_be_long() -> None:
    assert Passphrase(environment={}, ask=answering(LONG, LONG)).new("a backup") == LONG.encode()
    with pytest.raises(Mistake, match="the two that were given differ"):
        Passphrase(environment={}, ask=answering(LONG, "something else")).new("a backup")
    with pytest.raises(Mistake, match="less than 12 characters"):
        Passphrase(environment={}, ask=answering("short")).new("a backup")


def test_where_nobody_can_be_asked_it_says_how_to_give_it(tmp_path: Path) -> None:
    passphrase = Passphrase(environment={}, ask=lambda question: ask(question, {}, tmp_path / "no terminal"))

    with pytest.raises(LockedError, match=r"the passphrase of a key is wanted.*--passphrase-file or HARDWAY_PASSPHRASE_FILE"):
        passphrase("a key")


def test_it_shows_in_no_text_of_it(file: Path) -> None:
    passphrase = Passphrase(file=str(file))
    passphrase("a key")

    assert LONG not in repr(passphrase)
