"""certs, certs.renew: every certificate looked at and renewed."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.duration import duration
from hardway.verbs.program.session import HOSTS, Session

if TYPE_CHECKING:
    from hardway.certs.look import Seen
    from hardway.certs.report import Report
    from hardway.inventory import Host, Inventory
    from hardway.pki.declared import Declarations
    from hardway.pki.issue import Made
    from hardway.pki.register import Item
    from hardway.pki.request import Request


# By kind: its heading and its columns, of which the last one is the hosts'.
TABLES = {
    "authority": ("Authorities", ("name", "what", "ends", "days", "where", "is", "hosts")),
    "certificate": ("Certificates", ("name", "signed by", "ends", "days", "read by", "is", "hosts")),
    "kubeconfig": ("Kubeconfigs", ("where", "what", "ends", "read by", "is", "hosts")),
    "bundle": ("Bundles", ("where", "holds", "ends", "read by", "is", "hosts")),
    "key": ("Keys", ("name", "what", "where", "read by", "is", "hosts")),
}


@task(
    auto_shortflags=False,
    help={
        "json": "write all of it as JSON to this file, - for standard output",
        "html": "write it to this file as a page to look at, with the course of the last rotation",
        "prometheus": "write it to this file, for the textfile collector of node_exporter",
        "hosts": HOSTS,
        "warn-days": "how many days before its end a certificate is wrong; if not given, when a push would renew it",
    },
)
def certs(c: Context, json: str = "", html: str = "", prometheus: str = "", hosts: str = "", warn_days: str = "") -> None:
    """Show every certificate and key: until when, read by whom, and if the hosts serve it.

    For cron: exits 1 if something is wrong, has expired or is about to, or is served differently; 3 if nothing is wrong but
    a host or a port did not answer; 0 if all is well. It changes nothing.
    """
    from hardway.certs import public
    from hardway.certs.prometheus import exposition

    session = Session.open(c)
    warn = timedelta(days=_number("--warn-days", warn_days)) if warn_days else None
    some = session.hosts(hosts)
    with session.console.step("certificates") as tell:
        report = look(session, warn, some)
        session.left_alone(some, tell)
    if prometheus:
        public.write(Path(prometheus), exposition(report))
    if html:
        public.write(Path(html), _page(session, report))
    if json:
        session.console.json(report.document, json)
    if json != "-":
        _show(session, report)
    raise Exit(code=report.code)


@task(
    auto_shortflags=False,
    help={
        "within": "what ends within this time, such as 30d or 12h; the default",
        "name": "this certificate, on all its hosts",
        "hosts": f"with --name: {HOSTS}",
        "all": "every certificate; authorities and keys are not renewed by this verb",
        "no-wait": "do not wait for readers that look only every five minutes",
    },
)
def renew(c: Context, within: str = "", name: str = "", hosts: str = "", all_: bool = False, no_wait: bool = False) -> None:
    """Issue certificates again, push them and nothing else, and prove each where it shows.

    No unit is restarted, unless certs/ says that it reads a certificate only at its start. It works while the API is down, and
    after every certificate has expired. Run again, it goes on.
    """
    from hardway.certs.renewal import bring
    from hardway.pki import declared, issue
    from hardway.proof import prove, renewed
    from hardway.state import State
    from hardway.verbs.program.hosts import called
    from hardway.verbs.program.running import running, write_kubeconfig

    session = Session.open(c)
    if sum(map(bool, (within, name, all_))) > 1 or (hosts and not name):
        raise Mistake.at("certs.renew", "choose one of --within, --name with or without --hosts, --all")
    state, declarations = State(session.state), declared.load(session.certs)
    chosen = _chosen(session, declarations, name, hosts, every=all_)
    # Also where some are named, those are issued that end before long or cannot be used: a push would do it too.
    window = duration("--within", within) if within else issue.WINDOW
    with session.console.step("renew") as tell:
        now, unlock = datetime.now(UTC), session.passphrase
        made = issue.ensure(declarations, session.inventory, state, now, window, chosen, unlock=unlock, tell=tell)
        for line in _issued(made):
            tell(line)
        with running(session, state, tell, issuing=False) as cluster:
            write_kubeconfig(session.inventory, cluster, state)
            pushed = bring(cluster, declarations, tell)
            proofs = prove(cluster, renewed(cluster, declarations, pushed.files), tell, wait=not no_wait)
    proved: dict[tuple[str, str], list[str]] = {}
    for proof in proofs:
        how = proof.how or f"NOT PROVED: {proof.failure}"
        proved.setdefault((proof.renewed.certificate, how), []).append(proof.renewed.host.name)
    if proved:
        session.console.table(
            ("certificate", "proof", "hosts"), [(*row, called(session.inventory, several)) for row, several in sorted(proved.items())]
        )
    session.console.result(f"{len(made)} issued, {len(proofs)} brought to hosts" if made or proofs else "nothing to renew")
    if pushed.left:
        session.console.tell(f"{pushed.left} other changes were left alone; `./inv plan` shows them")
    for silent, why in pushed.silent.items():
        session.console.tell(f"{silent}: has none of it: {why}; run it again when it answers")
    if pushed.silent or any(proof.failure for proof in proofs):
        raise Exit(code=1)


def look(session: Session, warn: timedelta | None, hosts: tuple[Host, ...]) -> Report:
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
    names = {host.name for host in hosts}
    wanted = [one for one in items(declared.load(session.certs), inventory, state, KUBECONFIG, now) if not one.host or one.host in names]
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(running(session, state, session.console.tell, issuing=False))
        except Mistake as mistake:
            seen, silent = unasked(wanted), here(hosts, "; ".join(str(finding) for finding in mistake.findings))
        else:
            seen, silent = everywhere(cluster, wanted, hosts)
    return Report(cluster=inventory.cluster, asked=now, warn=warn, seen=seen, silent=silent)


def _page(session: Session, report: Report) -> str:
    """With what was; where that cannot be read, the page is still about what there is now."""
    from hardway import chronicle
    from hardway.certs.page import page
    from hardway.pki import declared
    from hardway.pki.register import retired
    from hardway.state import State
    from hardway.verbs.program.hosts import called

    state, records = State(session.state), []
    for name in chronicle.names(state):
        try:
            records.append(chronicle.read(state, name))
        except Mistake as mistake:
            session.console.tell(f"left out: {mistake}")
    try:
        gone = retired(declared.load(session.certs), session.inventory, state)
    except Mistake as mistake:
        session.console.tell(f"left out: {mistake}")
        gone = ()
    return page(report, gone, partial(called, session.inventory), records)


def _show(session: Session, report: Report) -> None:
    console, wrong = session.console, report.wrong
    first = report.next
    when = _when(report, first) if first else "none has an end"
    verdict = f"{len(wrong)} wrong" if wrong else "nothing wrong"
    verdict += f", {len(report.unknown)} not found out" if report.unknown else ""
    console.result(f"{report.cluster}: {verdict}; {when}", style="red" if wrong else "")
    for line in wrong:
        console.result(f"  wrong: {line}", style="red")
    for line in report.unknown:
        console.result(f"  unknown: {line}", style="yellow")
    for line in report.notes:
        console.result(f"  note: {line}", style="yellow")
    for kind, (heading, columns) in TABLES.items():
        console.result(f"\n{heading}", style="bold")
        console.table(columns, _rows([one for one in report.seen if one.item.kind == kind], columns, report, session.inventory))
    console.result("\nNames in certificates", style="bold")
    addresses = {host.name: str(host.address) for host in session.inventory.hosts}
    names = dict.fromkeys(_names(one.item, addresses) for one in report.seen if one.item.kind == "certificate")
    console.table(("name", "where", "subject", "names"), list(names))


def _when(report: Report, first: Seen) -> str:
    days, end = report.days(first) or 0, f"{first.item.not_after:%Y-%m-%d}"
    return f"{first.item.name} ended first, on {end}" if days < 0 else f"{first.item.name} ends first, on {end}, in {days} days"


def _rows(seen: Sequence[Seen], columns: Sequence[str], report: Report, inventory: Inventory) -> list[tuple[str, ...]]:
    """A row for what is the same on several hosts."""
    from hardway.certs.report import where
    from hardway.verbs.program.hosts import called

    grouped: dict[tuple[str, ...], list[str]] = {}
    for one in seen:
        item = one.item
        cells = {
            "name": item.name,
            "holds": item.name,
            "signed by": item.issuer,
            "what": item.note,
            "ends": f"{item.not_after:%Y-%m-%d}" if item.not_after else "",
            "days": "" if report.days(one) is None else str(report.days(one)),
            "where": where(item),
            "read by": ", ".join(f"{use.reader.removesuffix('.service')} ({use.pickup.value})" for use in item.uses) or _whose(item),
            "is": _status(one, report),
        }
        grouped.setdefault(tuple(cells[column] for column in columns[:-1]), []).append(item.host or "")
    return [(*row, called(inventory, [host for host in hosts if host])) for row, hosts in grouped.items()]


def _whose(item: Item) -> str:
    """Of a certificate that no file on a host is declared for."""
    return item.note if item.kind == "certificate" else ""


def _status(one: Seen, report: Report) -> str:
    if report.why(one):
        return "WRONG"
    if one.on_host == "not asked":
        return "not asked"
    served = one.wire
    if served is None:
        return "on the host" if one.on_host == "there" else "as in state" if one.on_host else "ok"
    return f"served on {served.serving.port}" if served.shown else f"silent on {served.serving.port}"


def _names(item: Item, addresses: Mapping[str, str]) -> tuple[str, ...]:
    """The same for all hosts: what is a host's own is a placeholder."""
    from hardway.certs.report import where

    own = {item.host: "{host}", addresses.get(item.host, ""): "{address}"} if item.host else {}
    sans = [f"{kind}:{own.get(name, name)}" for kind, _, name in (san.partition(":") for san in item.sans)]
    subject = item.subject.replace(f"CN={item.host}", "CN={host}") if item.host else item.subject
    return item.name, where(item), subject, ", ".join(sans)


def _issued(made: Sequence[Made]) -> Iterator[str]:
    """A line for what was issued for several hosts, for one reason."""
    several = Counter((Path(one.file).stem.partition("@")[0], one.why) for one in made)
    for (name, why), times in several.items():
        yield f"issued {name}{f' for {times} hosts' if times > 1 else ''}: {why}"


def _chosen(session: Session, declarations: Declarations, name: str, hosts: str, *, every: bool) -> Callable[[Request], bool]:
    """The certificates that were asked for; a Mistake with the near name if there is none of that name."""
    from hardway.pki.request import requests

    wanted = requests(declarations, session.inventory)
    known = {one.certificate for one in wanted}
    if name and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        step = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise Mistake.at("--name", f"there is no {name}", step)
    meant = {host.name for host in session.hosts(hosts)} if hosts else set()
    having = {one.host for one in wanted if one.certificate == name and one.host}
    if meant and not meant & having:
        raise Mistake.at("--hosts", f"{hosts} has no {name}", f"it is of {', '.join(sorted(having)) or 'no host'}")
    return lambda one: every or (one.certificate == name and (not meant or one.host in meant))


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Mistake.at(option, f"{text!r} is no number", f"write {option} 14") from None
