"""hosts.trust: the keys by which your machines are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from hardway.errors import Mistake
from hardway.verbs.program.session import Session

if TYPE_CHECKING:
    from hardway.inventory import Host
    from hardway.remote.ssh.hostkeys import HostKey


@task(
    auto_shortflags=False,
    iterable=["replace"],
    help={"replace": "a host whose changed key is right, because it was made anew; may be given several times"},
)
def trust(c: Context, replace: list[str]) -> None:
    """Show the fingerprints of the hosts' keys and record new ones; a changed one is refused."""
    from hardway.remote.fanout import each
    from hardway.remote.ssh import Once, hostkeys, line

    session = Session.open(c)
    hosts, known_hosts = session.inventory.hosts, session.state / "known_hosts"
    if strange := sorted(set(replace) - {host.name for host in hosts}):
        raise Mistake.at("--replace", f"{strange[0]} is not in the inventory", f"it has {', '.join(host.name for host in hosts)}")

    ask = Once(session.console.ask)  # of jump hosts, where one signs in

    def asked(host: Host) -> HostKey:
        return hostkeys.compared(host, *line(host, identity=None, known_hosts=known_hosts, ask=ask).shown_key())

    keys = each(hosts, asked, 16).values()
    recorded = [key for key in keys if key.known == "new" or (key.known == "changed" and key.host.name in replace)]
    hostkeys.record(recorded, known_hosts)
    refused = [key for key in keys if key.known == "changed" and key not in recorded]
    verdicts = {key.host.name: "recorded" if key in recorded else key.known for key in keys}
    rows = [(key.host.name, key.way.known_as, key.key.get_name(), key.fingerprint, verdicts[key.host.name]) for key in keys]
    session.console.table(("host", "address", "key", "fingerprint", "is"), rows)
    session.console.tell("compare a new fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on that host")
    if refused:
        names = ", ".join(key.host.name for key in refused)
        raise Exit(
            f"the key of {names} has changed; if the host was made anew, run it with --replace NAME; if not, somebody is in between", 1
        )
