"""On a cluster of others a Job whose Pods a quota refuses proves nothing; one whose Pods nobody makes fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardway.smoke.checks.workloads import job
from hardway.smoke.verdict import Failed, Skipped
from tests.smoke.checks.node import INVENTORY, FakeNode

SPACE = "/api/v1/namespaces/smoke"
REFUSED = {"message": 'Error creating: pods "p" is forbidden: exceeded quota: bounds'}


def theirs(*events: dict[str, str]) -> FakeNode:
    """Nobody makes Pods there."""
    return FakeNode(
        inventory=replace(INVENTORY, hosts=()), answers={f"{SPACE}/pods": {"items": []}, f"{SPACE}/events": {"items": list(events)}}
    )


def test_a_job_for_whose_pods_a_quota_has_no_room_is_skipped() -> None:
    with pytest.raises(Skipped, match="the namespace's quota has no room: Error creating: pods"):
        job(theirs(REFUSED).stage)


@pytest.mark.parametrize("events", [(), ({"message": "Error creating: no such account"},)])
def test_a_job_that_gets_no_pods_fails(events: tuple[dict[str, str], ...]) -> None:
    node = theirs(*events)

    with pytest.raises(Failed, match="to have 2 Pods; got after 15 s: it has none"):
        job(node.stage)

    (made,) = node.objects.values()  # it ends, whoever has forgotten it
    assert made["spec"]["activeDeadlineSeconds"] == 600
