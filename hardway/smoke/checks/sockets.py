"""A host's TCP sockets, as its kernel lists them, and the checks of who talks to etcd."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hardway.components import etcd, installed
from hardway.desired import Check, Live, Stage
from hardway.inventory import Host
from hardway.smoke.verdict import Failed, Journal, expecting

UNIT = etcd.COMPONENT.unit
# Who may be a client on 2379 from a controller: sshd carries the kit's own questions where the port is not reached directly.
CLIENTS = frozenset({"etcd", "kube-apiserver", "etcdctl", "sshd"})


# What can open etcd's door; for each, which of the users $@ can read it.
READABLE = """
for file in /etc/etcd/pki/*.pem /etc/kubernetes/*/etcd-client.pem; do
  printf %s "$file"
  for user; do ! setpriv --reuid="$user" --regid="$user" --init-groups test -r "$file" || printf ' %s' "$user"; done
  echo
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """One TCP socket; the peer of one that listens is `*`."""

    local: str
    local_port: int
    peer: str
    peer_port: int
    programs: frozenset[str]


def listening(live: Live, host: Host, *ports: int) -> tuple[Socket, ...]:
    """Who listens on these ports."""
    return tuple(_parse(line) for line in live.run(host, "ss", "-Htnlp", _filter("sport", ports)).splitlines() if line.strip())


def established(live: Live, host: Host, *ports: int) -> tuple[Socket, ...]:
    """Who is connected, as server or client, on these ports."""
    either = f"{_filter('sport', ports)} or {_filter('dport', ports)}"
    lines = live.run(host, "ss", "-Htnp", "state", "established", f"( {either} )").splitlines()
    return tuple(_parse(line) for line in lines if line.strip())


def ports(stage: Stage) -> str:
    """Ask each member's kernel who listens and who is connected."""
    members = stage.inventory.on("controller")
    listens = [_listens(stage, host) for host in members]  # first: a member that is down explains the connections that others lack
    clients = {host.name: _connections(stage, host) for host in members}
    if not any("kube-apiserver" in programs for programs in clients.values()):
        raise Failed(f"the API servers to be clients on {etcd.CLIENT_PORT}", "none of them is connected")
    return "\n".join(
        (
            *listens,
            *(f"ss on {host.name}: connected on {etcd.PEER_PORT} with every other member, and with nobody else" for host in members),
            *(f"ss on {name}: clients from here on {etcd.CLIENT_PORT}: {', '.join(sorted(found))}" for name, found in clients.items()),
        )
    )


def _listens(stage: Stage, host: Host) -> str:
    """Etcd, and nobody else, where it should."""
    look = Journal(host, UNIT)
    with expecting(f"`ss` on {host.name} to list its sockets", look):
        listen = listening(stage, host, etcd.CLIENT_PORT, etcd.PEER_PORT)
    own = {(one.local, one.local_port) for one in listen if one.programs == {"etcd"}}
    wanted = {(str(host.address), etcd.CLIENT_PORT), ("127.0.0.1", etcd.CLIENT_PORT), (str(host.address), etcd.PEER_PORT)}
    if own != wanted or len(listen) != len(own):
        shown = ", ".join(f"{'/'.join(sorted(one.programs))} on {one.local}:{one.local_port}" for one in listen) or "nobody listens"
        raise Failed(f"etcd, and nobody else, on {_ports(wanted)} of {host.name}", shown, look)
    return f"ss on {host.name}: etcd listens on {_ports(own)}"


def _connections(stage: Stage, host: Host) -> set[str]:
    """Members, and nobody else, on the members' port; the programs that are clients from this host."""
    look = Journal(host, UNIT)
    names = {str(member.address): member.name for member in stage.inventory.on("controller")}
    with expecting(f"`ss` on {host.name} to list its connections", look):
        found = established(stage, host, etcd.CLIENT_PORT, etcd.PEER_PORT)
    peers = [one for one in found if etcd.PEER_PORT in {one.local_port, one.peer_port}]
    for one in peers:
        if one.programs - {"etcd"} or one.peer not in names:
            who = f"{'/'.join(sorted(one.programs))} with {one.peer}"
            raise Failed(f"only members to be connected on {etcd.PEER_PORT} of {host.name}", who, look)
    if missing := set(names) - {one.peer for one in peers} - {str(host.address)}:
        absent = ", ".join(sorted(names[address] for address in missing))
        raise Failed(f"{host.name} to be connected with every other member on {etcd.PEER_PORT}", f"no connection with {absent}", look)
    clients = {name for one in found if one.peer_port == etcd.CLIENT_PORT for name in one.programs}
    if strangers := clients - CLIENTS:
        raise Failed(
            f"only API servers and etcd itself as clients on {etcd.CLIENT_PORT}", f"{', '.join(sorted(strangers))} on {host.name}", look
        )
    return clients


def only_client(stage: Stage) -> str:
    """Ask every host's kernel who is a client of etcd, and every daemon's user whether it could be one."""
    connected = [_clients(stage, host) for host in stage.inventory.hosts]
    return "\n".join([*connected, *(_readers(stage, host) for host in stage.inventory.on("controller"))])


def _clients(stage: Stage, host: Host) -> str:
    with expecting(f"`ss` on {host.name} to list its connections"):
        found = established(stage, host, etcd.CLIENT_PORT)
    clients = {name for one in found if one.peer_port == etcd.CLIENT_PORT for name in one.programs}
    if strangers := clients - CLIENTS:
        raise Failed(f"no client of etcd on {host.name} but kube-apiserver and etcd itself", ", ".join(sorted(strangers)))
    return f"ss on {host.name}: clients of {etcd.CLIENT_PORT}: {', '.join(sorted(clients)) or 'nobody'}"


def _readers(stage: Stage, host: Host) -> str:
    """Each daemon's user tries to read each key."""
    # What workers have is root's.
    users = [component.name for component in installed(stage.inventory, host) if "worker" not in component.on]
    with expecting(f"{host.name} to tell who can read etcd's keys"):
        lines = stage.run(host, "sh", "-c", READABLE, "sh", *users).splitlines()
    readers = {file: set(by) for file, *by in (line.split() for line in lines)}
    for file, by in readers.items():
        owner = file.split("/")[3] if file.startswith("/etc/kubernetes/") else "etcd"
        if strangers := by - {owner}:
            raise Failed(f"{file} on {host.name} to be readable by {owner} alone", ", ".join(sorted(strangers)))
    if not any("kube-apiserver" in by for by in readers.values()):
        raise Failed(f"kube-apiserver on {host.name} to read its key, or this check could not tell", "it cannot")
    told = (f"{file} by {', '.join(sorted(by)) or 'root alone'}" for file, by in readers.items())
    return f"test -r on {host.name} as {', '.join(users)}: {'; '.join(told)}"


def _filter(side: str, ports: tuple[int, ...]) -> str:
    return " or ".join(f"{side} = :{port}" for port in ports)


def _parse(line: str) -> Socket:
    local, peer = (word for word in line.split() if re.search(r":(\d+|\*)$", word))
    return Socket(
        local=_address(local),
        local_port=int(local.rpartition(":")[2]),
        peer=_address(peer),
        peer_port=int(peer.rpartition(":")[2].replace("*", "0")),
        programs=frozenset(re.findall(r'\("([^"]+)",pid=', line)),
    )


def _address(word: str) -> str:
    return word.rpartition(":")[0].strip("[]").removeprefix("::ffff:").partition("%")[0]


def _ports(found: set[tuple[str, int]]) -> str:
    return ", ".join(f"{address}:{port}" for address, port in sorted(found))


CHECKS = (
    Check(
        name="etcd.ports",
        component="etcd",
        proves="etcd serves clients on 2379 and its members on 2380, and on 2380 nobody but members is connected",
        run=ports,
        needs=frozenset({"hosts"}),
        sabotage="a stranger connects to 2380",
    ),
    Check(
        name="apiserver.only-client-of-etcd",
        component="kube-apiserver",
        proves="nobody but the API servers talks to etcd, and no other daemon could: none can read a key that etcd accepts",
        run=only_client,
        needs=frozenset({"hosts"}),
        sabotage="a daemon's user may read the API server's key",
    ),
)
