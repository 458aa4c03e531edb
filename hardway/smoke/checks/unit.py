"""Every daemon is a binary that systemd runs, as it was rendered: the check of a component's unit on each of its hosts."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from functools import partial

from hardway import render
from hardway.components.daemon import SYSTEM, declared
from hardway.desired import Check, Component, Stage, Template
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.smoke.verdict import Failed, Journal, Skipped, expecting

# The most that `systemd-analyze security` may say of each; of those that have to see the whole machine nothing is asked.
EXPOSURE: Mapping[str, float] = {
    **dict.fromkeys(("etcd", "kube-apiserver", "kube-apiserver-lb", "kube-controller-manager", "kube-scheduler"), 2.0),
    "kube-proxy": 5.0,
    "pod-network": 6.0,
}

# One exec answers for one unit: $1 a mark between the answers, $2 the unit, $3 its program, $4 what makes that tell its version,
# $5 whether it has to be exposed no more than so.
QUESTIONS = """
say() { printf '\\n%s %s\\n' "$mark" "$1"; }
mark=$1 unit=$2
pid=$(systemctl show --property=MainPID --value "$unit")
say show
systemctl show --property=ActiveState,SubState,UnitFileState,ActiveEnterTimestamp,NRestarts,InvocationID "$unit"
systemctl show --property=FragmentPath,DropInPaths,NeedDaemonReload,Result,User "$unit"
say commands; systemctl show --property=ExecStart "$unit"
say file; cat "/etc/systemd/system/$unit"
say security; [ ! "$5" ] || systemd-analyze security --no-pager "$unit" 2>&1 | tail -n 1
say pid; echo "$pid"
[ "${pid:-0}" -gt 0 ] || exit 0
say program; readlink "/proc/$pid/exe"; readlink -f "$3"
say user; stat -c %U "/proc/$pid"
say flags; tr '\\0' '\\n' <"/proc/$pid/cmdline"
say version; "/proc/$pid/exe" "$4" 2>&1
exit 0
"""


def check(component: Component) -> Check:
    """That a component is a unit on each of its hosts, and runs as that unit was rendered."""
    return Check(
        name=f"{component.name}.unit",
        component=component.name,
        proves=f"{component.name} is on each of its hosts the systemd unit that was rendered, as the user named there, and did not restart",
        run=partial(runs_as_rendered, component),
        needs=frozenset({"hosts"}),
        sabotage="a drop-in gives the daemon another flag",
        last=True,
    )


def runs_as_rendered(component: Component, stage: Stage) -> str:
    """Ask every host of the component."""
    hosts = component.hosts(stage.inventory)
    if not hosts:
        there = stage.inventory.on(*component.on)
        roles = " or ".join(component.on)
        raise Skipped(f"this cluster does without {component.name}" if there else f"the inventory has no host with the role {roles}")
    return "\n".join(_on(component, stage, host) for host in hosts)


def words(unit: str) -> list[str]:
    """The words that the process of a rendered unit gets."""
    return commands(unit)[0]


def commands(unit: str) -> list[list[str]]:
    """Each ExecStart of a rendered unit as words; reverses what `quoted` does and no more of systemd's grammar."""
    lines = [line for line in unit.replace("\\\n", " ").splitlines() if line.startswith("ExecStart=")]
    parts = (shlex.split(re.sub(r"^ExecStart=-?", "", line)) for line in lines)
    return [[word.replace("%%", "%").replace("$$", "$") for word in part] for part in parts]


def _on(component: Component, stage: Stage, host: Host) -> str:
    look = Journal(host, component.unit)
    with expecting(f"{host.name} to tell of {component.unit}", look):
        began = stage.began(host)
        rendered = _rendered(component, stage, host)
        argv = words(rendered)
        mark = secrets.token_hex(8)
        asks_version = "--version" if component.programs else "-v"
        most = EXPOSURE.get(component.name, "")
        said = _answers(stage.run(host, "sh", "-c", QUESTIONS, "sh", mark, component.unit, argv[0], asks_version, str(most)), mark)
    shown = dict(line.split("=", 1) for line in said["show"].splitlines() if "=" in line)
    before = began.units.get(component.unit)
    wrong = [*_state(component, shown), *_file(component, said, shown, rendered)]
    if _setting(rendered, "Type") == "oneshot":
        wrong += _done(said, shown, rendered)
        runs = f"{len(commands(rendered))} commands as rendered, Result success"
    elif int(said["pid"] or 0):
        wrong += _process(component, stage.inventory, said, argv, _setting(rendered, "User") or "root")
        runs = f"{len(argv) - 1} words of ExecStart as rendered, {said['version'].partition(chr(10))[0]}, user {said['user']}"
    else:
        runs = ""
    if before and (shown["InvocationID"] != before.invocation or int(shown["NRestarts"] or 0) > before.restarts):
        wrong.append(f"it has restarted since the run began (NRestarts {before.restarts}, now {shown['NRestarts']})")
    if wrong:
        raise Failed(f"{component.unit} on {host.name} to run as rendered", "; ".join(wrong), look)
    drop_ins = f", drop-ins {shown['DropInPaths']}" if shown["DropInPaths"] else ""
    return (
        f"{host.name}: systemctl show, cat, /proc/{said['pid']}: enabled, active since {shown['ActiveEnterTimestamp']}, "
        f"unit file and {runs}{drop_ins}, NRestarts {shown['NRestarts']}" + (f", exposure {_exposure(said['security'])}" if most else "")
    )


def _state(component: Component, shown: Mapping[str, str]) -> Iterator[str]:
    if shown["ActiveState"] != "active":
        yield f"it is {shown['ActiveState']} ({shown['SubState']})"
    if shown["UnitFileState"] != "enabled":
        yield f"it is {shown['UnitFileState'] or 'no unit that is known'}, not enabled"
    if shown["FragmentPath"] not in {"", str(SYSTEM / component.unit)}:
        yield f"its file is {shown['FragmentPath']}"
    if shown["NeedDaemonReload"] == "yes":
        yield "systemd has not read its file since that was changed"


def _file(component: Component, said: Mapping[str, str], shown: Mapping[str, str], rendered: str) -> Iterator[str]:
    if said["file"].strip() != rendered.strip():
        pairs = zip(said["file"].strip().splitlines(), rendered.strip().splitlines(), strict=False)
        first = next((f"`{there}` instead of `{wanted}`" for there, wanted in pairs if there != wanted), "it has another number of lines")
        yield f"its file is not the rendered one: {first}"
    exposure = _exposure(said["security"])
    most = EXPOSURE.get(component.name)
    if most and shown["ActiveState"] == "active" and not (exposure is not None and exposure <= most):
        yield f"systemd-analyze security rates it {exposure}, more than {most}"


def _done(said: Mapping[str, str], shown: Mapping[str, str], rendered: str) -> Iterator[str]:
    """Of a unit that has no process: what systemd has run, and how it ended."""
    ran = re.findall(r"argv\[\]=(.*?) ; ", said["commands"])
    wanted = [" ".join(command) for command in commands(rendered)]
    if ran != wanted:
        differ = next((one for one in ran if one not in wanted), f"{len(ran)} of {len(wanted)} commands")
        yield f"its commands are not those of the rendered unit: `{differ}`"
    if shown["ActiveState"] == "active" and (shown["SubState"], shown["Result"]) != ("exited", "success"):
        yield f"it is {shown['SubState']}, with the result {shown['Result']}"
    if shown["User"] != _setting(rendered, "User"):
        yield f"it runs as {shown['User'] or 'root'}"


def _process(component: Component, inventory: Inventory, said: Mapping[str, str], argv: list[str], user: str) -> Iterator[str]:
    running, _, wanted = said["program"].partition("\n")
    if running != wanted:
        yield f"it runs {running}, and {argv[0]} is {wanted}"
    if said["user"] != user:
        yield f"it runs as {said['user']}"
    flags = said["flags"].splitlines()
    # HAProxy's master adds words of its own, before ours, when it is reloaded.
    same = flags == argv if component.programs else [flags[0], *flags[len(flags) - len(argv) + 1 :]] == argv
    if not same:
        more, less = sorted(set(flags) - set(argv)), sorted(set(argv) - set(flags))
        differ = [*(f"it has {word}" for word in more), *(f"it lacks {word}" for word in less)] or ["they are in another order"]
        yield f"its flags are not those of the rendered unit: {', '.join(differ)}"
    version = declared(component, inventory)
    if version and not re.search(rf"(?<![\w.]){re.escape(version)}(?![\w.])", said["version"].replace(" v", " ")):
        yield f"it says it is {said['version'].partition(chr(10))[0]!r}, declared is {version}"


def _rendered(component: Component, stage: Stage, host: Host) -> str:
    facts = stage.began(host).facts
    drafts = component.files(stage.inventory, host, facts)
    content = next(draft.content for draft in drafts if draft.path == SYSTEM / component.unit)
    if not isinstance(content, Template):
        raise Mistake.at(component.unit, "is not made from a template")
    return render.text(content, inventory=stage.inventory, host=host, facts=facts)


def _setting(rendered: str, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", rendered, re.MULTILINE)
    return found[1] if found else ""


def _answers(text: str, mark: str) -> Mapping[str, str]:
    """The answers by the names of their questions; empty where a daemon that does not run was not asked."""
    found = dict.fromkeys(("show", "commands", "file", "security", "pid", "program", "user", "flags", "version"), "")
    for piece in text.split(f"\n{mark} ")[1:]:
        name, _, answer = piece.partition("\n")
        found[name] = answer.strip("\n")
    return found


def _exposure(line: str) -> float | None:
    found = re.search(r": (\d+\.\d+) ", line)
    return float(found[1]) if found else None
