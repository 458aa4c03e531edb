"""The report's forms for machines."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from hardway.smoke.report import Report, Result

PASSED = Result(
    name="etcd.keys", component="etcd", proves="keys are listed", status="passed", evidence="etcdctl get /: 212 keys", seconds=0.25
)
FAILED = Result(
    name="etcd.ports", component="etcd", proves="two ports", status="failed", reason="expected <etcd>; got \x1b[1mnone", seconds=1
)
SKIPPED = Result(name="apiserver.json", component="kube-apiserver", proves="the same", status="skipped", reason="no kubectl", seconds=0)


def report(*checks: Result, left: tuple[str, ...] = ()) -> Report:
    return Report(cluster="hardway", started="2026-01-01T00:00:00+00:00", seconds=2.5, checks=checks, left=left)


def test_json_has_exactly_the_declared_fields() -> None:
    assert json.loads(json.dumps(report(PASSED).document)) == {
        "schema": 1,
        "cluster": "hardway",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 2.5,
        "checks": [
            {
                "name": "etcd.keys",
                "component": "etcd",
                "proves": "keys are listed",
                "status": "passed",
                "reason": "",
                "evidence": "etcdctl get /: 212 keys",
                "seconds": 0.25,
            }
        ],
    }


def test_junit_counts_what_failed_and_what_was_skipped() -> None:
    suite = ET.fromstring(report(PASSED, FAILED, SKIPPED).junit)[0]  # noqa: S314 - our own

    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert [case.get("name") for case in suite] == ["etcd.keys", "etcd.ports", "apiserver.json"]
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.text == "expected <etcd>; got ?[1mnone"  # the escape character has no form in XML


@pytest.mark.parametrize(
    ("found", "green"),
    [
        (report(PASSED, SKIPPED), True),
        (report(PASSED, FAILED), False),
        (report(PASSED, left=("namespace hardway-smoke-x",)), False),
    ],
)
def test_a_report_is_green_if_nothing_failed_and_nothing_was_left(found: Report, green: bool) -> None:
    assert found.green is green
