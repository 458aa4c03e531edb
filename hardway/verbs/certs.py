"""certs, certs.renew, kubeconfig: every certificate looked at, renewed, issued to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.certs.look import Seen
    from hardway.certs.report import Report
    from hardway.pki.register import Item


@task(
    auto_shortflags=False,
    help={
        "json": "write all of it as JSON to this file, - for standard output",
        "prometheus": "write it to this file, for the textfile collector of node_exporter",
        "warn-days": "how many days before its end a certificate is wrong; if not given, when a push would renew it",
    },
)
def certs(c: Context, json: str = "", prometheus: str = "", warn_days: str = "") -> None:
    """Show every certificate, key and authority: until when, read by whom, and what is served on the wire.

    For cron: exits 1 if something is wrong, has expired or is about to, or is served differently; 3 if nothing is wrong but
    a host or a port did not answer; 0 if all is well. It changes nothing.
    """
    from hardway.certs import prometheus as exposition

    session = Session.open(c)
    warn = timedelta(days=_number("--warn-days", warn_days)) if warn_days else None
    with session.console.step("certificates"):
        report = look(session, warn)
    if prometheus:
        exposition.write(Path(prometheus), report)
    if json:
        session.console.json(report.document, json)
    if json != "-":
        _show(session, report)
    raise Exit(code=report.code)


def look(session: Session, warn: timedelta | None) -> Report:
    """Ask everywhere; where state/ itself is not whole no host is asked, and that is told."""
    from hardway.certs.look import here, items, unasked
    from hardway.certs.look import look as everywhere
    from hardway.certs.report import Report
    from hardway.pki import declared
    from hardway.state import State
    from hardway.verbs.program.running import KUBECONFIG, running

    state, inventory, now = State(session.state), session.inventory, datetime.now(UTC)
    if not state.glob("pki/*/*"):
        raise Mistake.at(str(session.state), "no certificate was ever issued here", "`./inv up` or `./inv push` does it")
    wanted = items(declared.load(session.certs), inventory, state, KUBECONFIG, now)
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(running(session, state, session.console.tell, issuing=False))
        except Mistake as mistake:
            seen, silent = unasked(wanted), here(inventory, "; ".join(str(finding) for finding in mistake.findings))
        else:
            seen, silent = everywhere(cluster, wanted)
    return Report(cluster=inventory.cluster, asked=now, warn=warn, seen=seen, silent=silent)


def _show(session: Session, report: Report) -> None:
    console, wrong = session.console, report.wrong
    first = report.next
    when = f"{first.item.name} ends first, on {first.item.not_after:%Y-%m-%d}, in {report.days(first)} days" if first else "none has an end"
    verdict = f"{len(wrong)} wrong" if wrong else "nothing wrong"
    verdict += f", {len(report.unknown)} not found out" if report.unknown else ""
    console.result(f"{report.cluster}: {verdict}; {when}", style="red" if wrong else "")
    for line in wrong:
        console.result(f"  wrong: {line}", style="red")
    for line in report.unknown:
        console.result(f"  unknown: {line}", style="yellow")
    for line in report.notes:
        console.result(f"  note: {line}", style="yellow")
    kinds = {"authority": "Authorities", "certificate": "Certificates", "kubeconfig": "Kubeconfigs", "bundle": "Bundles", "key": "Keys"}
    for kind, heading in kinds.items():
        console.result(f"\n{heading}", style="bold")
        columns, rows = _rows([one for one in report.seen if one.item.kind == kind], report)
        console.table(columns, rows)
    console.result("\nNames", style="bold")
    addresses = {host.name: str(host.address) for host in session.inventory.hosts}
    names = dict.fromkeys(_names(one.item, addresses) for one in report.seen if one.item.kind == "certificate")
    console.table(("certificate", "subject", "names"), list(names))


def _rows(seen: Sequence[Seen], report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row for what is the same on several hosts."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for one in seen:
        item = one.item
        ends = f"{item.not_after:%Y-%m-%d}" if item.not_after else ""
        days = "" if report.days(one) is None else str(report.days(one))
        readers = ", ".join(f"{use.reader.removesuffix('.service')} ({use.pickup.value})" for use in item.uses)
        where = str(item.path or (f"state: {item.file}" if item.file else ""))
        row = (item.name, item.issuer if item.kind == "certificate" else item.note, ends, days, where, readers, _status(one, report))
        grouped.setdefault(row, []).append(item.host or "")
    columns = (
        "name",
        "signed by" if seen and seen[0].item.kind == "certificate" else "what",
        "ends",
        "days",
        "where",
        "read by (notices)",
        "is",
        "hosts",
    )
    return columns, [(*row, ", ".join(filter(None, hosts))) for row, hosts in grouped.items()]


def _status(one: Seen, report: Report) -> str:
    if report.why(one):
        return "WRONG"
    if one.on_host == "not asked":
        return "not asked"
    served = one.wire
    if served is None:
        return "as in state" if one.on_host else "ok"
    return f"served on {served.serving.port}" if served.shown else f"silent on {served.serving.port}"


def _names(item: Item, addresses: Mapping[str, str]) -> tuple[str, str, str]:
    """The same for all hosts: what is a host's own is a placeholder."""
    own = {item.host: "{host}", addresses.get(item.host, ""): "{address}"} if item.host else {}
    sans = [f"{kind}:{own.get(name, name)}" for kind, _, name in (san.partition(":") for san in item.sans)]
    subject = item.subject.replace(f"CN={item.host}", "CN={host}") if item.host else item.subject
    return item.name, subject, ", ".join(sans)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Mistake.at(option, f"{text!r} is no number", f"write {option} 14") from None
