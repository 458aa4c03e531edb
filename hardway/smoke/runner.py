"""Runs checks: side by side where they do not disturb each other, each to a verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime

from hardway.desired import Check, Stage
from hardway.errors import Mistake
from hardway.smoke.report import Report, Result, Status
from hardway.smoke.stage import ClusterStage
from hardway.smoke.verdict import Failed, Journal, Skipped, balancer

Tell = Callable[[str], None]

AT_ONCE = 6  # sshd lets ten sessions run over one connection


def silent(_: str) -> None:
    """Tell nobody."""


def smoke(
    checks: Sequence[Check], stage: ClusterStage, *, have: Collection[str], tell: Tell, now: Tell = silent, at_once: int = AT_ONCE
) -> Report:
    """Run the checks on a stage of their own, so many at a time; whatever happens, the stage is cleared. `now` is told what goes on."""
    started, began = datetime.now(UTC), time.monotonic()
    with stage:
        results = run(checks, stage, have=have, tell=tell, now=now, at_once=at_once)
        now("what was made is removed")
    return Report(
        cluster=stage.inventory.cluster,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
        checks=results,
        left=stage.left,
    )


def run(
    checks: Sequence[Check], stage: Stage, *, have: Collection[str], tell: Tell, now: Tell = silent, at_once: int = AT_ONCE
) -> tuple[Result, ...]:
    """Every check's verdict, in the order of the list; those that stop things go one at a time, those that look back go last."""
    found: dict[str, Result] = {}
    under_way: list[str] = []
    changing = threading.Lock()

    def progress() -> None:
        now(f"{len(found)} of {len(checks)}" + (f"; {', '.join(under_way)}" if under_way else ""))

    def begun(check: Check) -> Result:
        with changing:
            under_way.append(check.name)
            progress()
        return judge(check, stage)

    def done(result: Result) -> None:
        with changing:
            found[result.name] = result
            under_way[:] = [name for name in under_way if name != result.name]
            progress()
        tell(line(result))

    for check in checks:
        if missing := check.needs - set(have):
            done(_result(check, "skipped", 0.0, reason=f"it needs {', '.join(sorted(missing))}"))
    able = [check for check in checks if check.name not in found]
    alone = [check for check in able if "disruptive" in check.needs]
    side_by_side = sorted((check for check in able if check not in alone), key=lambda check: not check.first)
    for wave in ([c for c in side_by_side if not c.last], *([c] for c in alone), [c for c in side_by_side if c.last]):
        pool = ThreadPoolExecutor(at_once)
        try:
            for future in as_completed([pool.submit(begun, check) for check in wave]):
                done(future.result())
        except BaseException:  # Ctrl-C: the checks that wait give up, those not begun never do
            stage.give_up()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()
    return tuple(found[check.name] for check in checks)


def judge(check: Check, stage: Stage) -> Result:
    """One check's verdict. Whatever it raises is one: a check that breaks has proved nothing."""
    began = time.monotonic()
    try:
        evidence = check.run(stage)
    except Skipped as skipped:
        return _result(check, "skipped", began, reason=str(skipped))
    except Failed as failed:
        return _failed(check, began, str(failed), stage, failed.look)
    except Mistake as mistake:
        look = balancer(stage.inventory) if mistake.findings[0].where == stage.inventory.server else None
        return _failed(check, began, str(mistake), stage, look)
    except Exception as error:  # noqa: BLE001 - the others' verdicts must not be lost
        return _result(check, "failed", began, reason=f"the check itself broke: {type(error).__name__}: {error}")
    return _result(check, "passed", began, evidence=evidence)


def line(result: Result) -> str:
    """A verdict in one line."""
    return f"{result.status:7} {result.name} ({result.seconds:.1f} s)" + (f": {result.reason}" if result.reason else "")


def _result(check: Check, status: Status, began: float, *, reason: str = "", evidence: str = "") -> Result:
    return Result(
        name=check.name,
        component=check.component,
        proves=check.proves,
        status=status,
        reason=reason,
        evidence=evidence,
        seconds=round(time.monotonic() - began, 3) if began else 0.0,
    )


def _failed(check: Check, began: float, reason: str, stage: Stage, look: Journal | None) -> Result:
    reason = f"{reason}; look at {look}" if look else reason
    return _result(check, "failed", began, reason=reason, evidence=_last_lines(stage, look))


def _last_lines(stage: Stage, look: Journal | None) -> str:
    """The last lines of the journal concerned, as the evidence of a failure."""
    if look is None:
        return ""
    try:
        lines = stage.run(look.host, "journalctl", "-u", look.unit, "-n", "10", "--no-pager", "-o", "short-iso")
    except Mistake as mistake:
        lines = f"it cannot be read: {mistake}"
    return f"{look}:\n{lines.rstrip()}"
