"""What is waited for is asked until it is so, too late, or over."""

from __future__ import annotations

import threading

from hardway.errors import Finding, Mistake
from hardway.waiting import answer, until


def test_it_is_asked_until_it_is_so() -> None:
    answers = iter(["no", "not yet", None])

    assert until(lambda: next(answers), within=60, pause=0) is None
    assert next(answers, "nothing is left") == "nothing is left"


def test_the_last_answer_is_told_where_it_is_late_or_over() -> None:
    over = threading.Event()
    over.set()

    assert until(lambda: "no", within=-1, pause=60) == "no"
    assert until(lambda: "no", within=60, pause=60, over=over) == "no"


def test_what_cannot_be_asked_is_an_answer_too() -> None:
    def ask() -> str | None:
        raise Mistake(Finding(where="a", what="is silent"), Finding(where="b", what="is silent"))

    assert answer(ask) == "a: is silent; b: is silent"
    assert answer(lambda: None) is None
