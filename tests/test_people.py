"""Who was given access is known until it ends, and what is written down holds no key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hardway import people
from hardway.errors import Mistake
from hardway.people import Access
from hardway.state import State

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def access(user: str, hours: int = 8) -> Access:
    return Access(
        user=user, fingerprint="ab" * 32, signer="kubernetes-2026a", believes=("kubernetes-2026a",), until=NOW + timedelta(hours=hours)
    )


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "kit")


def test_who_was_given_access_is_known_until_it_ends(state: State) -> None:
    assert people.given(state, NOW) == ()

    people.give(state, access("jane"), NOW)
    people.give(state, access("o: 'jim", hours=1), NOW)

    assert people.given(state, NOW) == (access("jane"), access("o: 'jim", hours=1))
    assert people.given(state, NOW + timedelta(hours=1)) == (access("jane"),)
    people.give(state, access("ann"), NOW + timedelta(hours=2))
    assert [one.user for one in people.given(state, NOW)] == ["jane", "ann"]  # what has ended is not kept


@pytest.mark.parametrize("text", ["{", "{}1", '[{"user": "jane"}]', "[1]", '[{"until": 1}]'])
def test_a_list_that_cannot_be_read_is_told_and_stays(state: State, text: str) -> None:
    state.write(people.FILE, text.encode())

    with pytest.raises(Mistake, match=r"people\.json: it is not the list of the people"):
        people.give(state, access("jane"), NOW)

    assert state.read(people.FILE) == text.encode()
