"""With CI=true a lab test that is skipped fails the run: a machine that cannot boot the lab proves nothing."""

import os
import signal
from collections.abc import Generator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_power_is_lost() -> Generator[None]:
    """Nobody waits for the disk: that what was written outlives a power cut shows on real hosts alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start: a shell that runs us in the background has them ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("lab") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI=true: {report.longrepr}"
    return report
