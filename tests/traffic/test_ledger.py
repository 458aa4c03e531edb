"""What was counted second by second is what was counted in all."""

from __future__ import annotations

import pytest

from hardway.traffic.inside import calls, counted
from hardway.traffic.ledger import Failure, Ledger
from hardway.traffic.mix import PLAIN, PLAIN_PUT
from hardway.traffic.report import LONGEST, Report, report


def failure(at: float, kind: str, *, visible: bool) -> Failure:
    return Failure(at=at, kind=kind, client="x", method="GET", instance="", cause="cut", replayed=not visible, visible=visible)


def found(ledger: Ledger) -> Report:
    return report(ledger, planned=dict.fromkeys({*ledger.kinds, *PLAIN, "get"}, 0), left_out={}, seconds=1)


def kept(times: list[float]) -> Ledger:
    """Requests that ended then."""
    clock = iter(times)
    ledger = Ledger(clock=lambda: next(clock))
    for at in times:
        ledger.ended(object(), "get", "x", began=at, answered=True)
    return ledger


def test_the_seconds_have_the_sums_of_the_whole() -> None:
    ledger = kept([1000.1, 1000.9, 1003.5])
    ledger.failed(failure(1001.2, "get", visible=True))
    ledger.failed(failure(1001.3, "get", visible=False))
    ledger.failed(failure(1003.0, PLAIN_PUT, visible=True))
    ledger.lagged("watch", "x", 1002.4, 0.1)
    pod = counted("service", calls("begun 1000 500\n500 501\n605 606 refused\n"), 0)
    ledger.add("service", pod.tally, pod.failures)

    document = found(ledger).document

    seconds = document["by_second"]
    assert (seconds["since"], seconds["seconds_each"]) == ("1970-01-01T00:16:40+00:00", 1)
    assert seconds["counts"] == [[3, 0, 0], [1, 2, 3], [1, 0, 0], [1, 0, 1]]  # a plain client's failure is raw alone
    sums = tuple(map(sum, zip(*seconds["counts"], strict=True)))
    assert sums == (document["requests"], document["client_visible_failures"], document["raw_failures"])


@pytest.mark.parametrize(("last", "each"), [(LONGEST - 1, 1), (LONGEST, 2), (10 * LONGEST, 11)])
def test_a_long_run_has_several_seconds_in_each_entry(last: int, each: int) -> None:
    seconds = found(kept([0.0, float(last)])).document["by_second"]

    assert seconds["seconds_each"] == each
    assert len(seconds["counts"]) <= LONGEST
    assert sum(requests for requests, *_ in seconds["counts"]) == 2


def test_nothing_that_was_asked_has_no_seconds() -> None:
    assert found(Ledger()).document["by_second"]["counts"] == []
