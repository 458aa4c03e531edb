"""What was answered while something was broken, and what was not."""

from __future__ import annotations

import threading
import time

from hardway.errors import Mistake
from hardway.smoke.pulse import Beat, Pulse, beating


def pulse(*beats: tuple[float, float, str]) -> Pulse:
    return Pulse(beats=[Beat(began=began, ended=ended, error=error) for began, ended, error in beats])


def test_failures_count_from_the_moment_when_there_should_be_none() -> None:
    seen = pulse((0, 1, "refused"), (1, 2, ""), (2, 3, "refused"))

    assert [beat.began for beat in seen.failed(since=1)] == [2]


def test_the_longest_time_without_an_answer_is_between_two_answers() -> None:
    assert pulse((0, 1, ""), (1, 2, "refused"), (2, 5, ""), (5, 6, "")).gap == 4
    assert pulse((0, 1, "refused")).gap == 0


def test_it_is_steady_once_everything_was_answered_for_long_enough() -> None:
    now = time.monotonic()

    assert pulse((now - 9, now - 8, "refused"), (now - 1, now - 0.5, "")).steady(3, since=now - 5) is None
    assert pulse((now - 1, now - 0.5, "refused"), (now - 0.4, now - 0.3, "")).steady(3, since=now - 5) == "refused"
    assert pulse((now - 1, now - 0.5, "")).steady(3, since=now - 1) == "it has not been answered for long enough"
    assert pulse().steady(3, since=now - 5) == "it has not been answered for long enough"


def test_a_pulse_goes_on_after_a_failure_and_stops_with_its_context() -> None:
    answers = iter(["", "refused"])
    twice = threading.Event()

    def ask() -> None:
        error = next(answers, None)
        if error is None:
            twice.set()
        elif error:
            raise Mistake.at("endpoint", error)

    with beating(ask) as seen:
        assert twice.wait(20)

    assert [beat.error for beat in seen.beats][:3] == ["", "endpoint: refused", ""]
    assert str(seen).startswith(f"{len(seen.beats)} requests, 1 failed, ")
