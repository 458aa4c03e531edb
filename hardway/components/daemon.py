"""What every daemon has: a binary, a unit, a user of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePosixPath

from hardway.desired import Component, File, Gate, Live, Pickup, Program, Serving, Template, Use
from hardway.errors import Finding
from hardway.inventory import Host, Inventory

Draft = File[Template | Program]

SYSTEM = PurePosixPath("/etc/systemd/system")
PROGRAMS = PurePosixPath("/usr/local/bin")

# Only what TLS 1.2 needs a choice for: forward secrecy and authenticated encryption. TLS 1.3 has no other.
TLS_CIPHER_SUITES = ",".join(
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
)

_VERSION = re.compile(r"^X-Version=(\d+)\.(\d+)\..*", re.MULTILINE)  # systemd takes no notice of what begins with X-


def unit(name: str, inventory: Inventory, **values: object) -> Draft:
    """The systemd unit units/<name>.service."""
    return File(
        path=SYSTEM / f"{name}.service",
        content=Template(source=f"units/{name}.service", values={**values, "extra_flags": extra_flags(name, inventory)}),
        uses=(Use(reader=f"{name}.service", pickup=Pickup.RESTART),),
    )


def next_minor(host: Host, name: str, old: str, new: str) -> Finding | None:
    """Why a daemon may not go from the version that its unit says to another: it goes up by one minor version at a time, and never down.

    https://etcd.io/docs/v3.6/upgrades/, https://kubernetes.io/releases/version-skew-policy/#kube-apiserver
    """
    before, after = _VERSION.search(old), _VERSION.search(new)
    if not before or not after:
        return None
    (major, minor), wanted = ((int(found[1]), int(found[2])) for found in (before, after))
    if wanted in {(major, minor), (major, minor + 1)}:
        return None
    what = f"{name} {before[0].partition('=')[2]} does not become {after[0].partition('=')[2]}"
    if wanted < (major, minor):
        why, step = ": an older one does not read what is stored", "put its version back in the inventory"
    else:
        why, step = " at once", f"take {major}.{minor + 1} first: one minor version after the other"
    return Finding(where=host.name, what=what + why, next_step=step)


def user(name: str) -> Draft:
    """The system user of a daemon, as systemd-sysusers makes it."""
    return File(
        path=PurePosixPath("/etc/sysusers.d") / f"{name}.conf",
        content=Template(source="templates/sysusers.conf", values={"user": name, "unit": f"{name}.service"}),
        uses=(Use(reader="systemd-sysusers", pickup=Pickup.RELOAD),),
    )


def daemon(program: str) -> Draft:
    """A binary that its own unit runs."""
    return File(
        path=PROGRAMS / program,
        content=Program(program),
        uses=(Use(reader=f"{program}.service", pickup=Pickup.RESTART),),
        mode=0o755,
    )


def tool(program: str) -> Draft:
    """A binary that people run."""
    return File(path=PROGRAMS / program, content=Program(program), uses=(Use(reader=program, pickup=Pickup.HANDSHAKE),), mode=0o755)


def config(
    component: str,
    name: str,
    *,
    source: str = "",
    pickup: Pickup = Pickup.RESTART,
    secret: bool = False,
    values: Mapping[str, object] | None = None,
) -> Draft:
    """A file in the daemon's own directory; one that holds a secret is readable by its group alone."""
    return File(
        path=PurePosixPath("/etc/kubernetes") / component / name,
        content=Template(source=f"templates/{source or f'{component}/{name}'}", values=values or {}, secret=secret),
        uses=(Use(reader=f"{component}.service", pickup=pickup),),
        owner=f"root:{component}" if secret else "root:root",
        mode=0o640 if secret else 0o644,
    )


def kubeconfig(component: str, server: str, client: str = "") -> Draft:
    """How a daemon reaches an API server: with ca.crt of its own directory, and client.pem if no other is named."""
    directory = f"/etc/kubernetes/{component}"
    values = {
        "server": server,
        "user": f"system:{component}",
        "client": client or f"{directory}/client.pem",
        "certificate_authority": f"{directory}/ca.crt",
    }
    return config(component, "kubeconfig", source="kubeconfig.yaml", values=values)


def certificate(serving: Serving) -> Gate:
    """That what a daemon shows on the wire is the certificate that was issued for its host."""

    def shows(live: Live, host: Host) -> str | None:
        shown, issued = live.served(host, serving.port), live.issued(serving.certificate, host)
        return None if shown == issued else f"it serves certificate {shown:x}, issued is {issued:x}"

    return Gate(name="certificate", ask=shows, within=10, arrival=True)


def declared(component: Component, inventory: Inventory) -> str | None:
    """The version that the inventory names for a component; None for what comes with the distribution."""
    if not component.programs:
        return None
    versions: dict[str, str] = asdict(inventory.versions)
    return versions.get(component.name, versions["kubernetes"] if component.name.startswith("kube") else None)


def extra_flags(component: str, inventory: Inventory) -> tuple[str, ...]:
    """The operator's own flags, quoted for ExecStart; what comes last wins.

    `%` and `$` are systemd's: https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#Command%20lines
    """
    return tuple(quoted(f"--{flag}={value}") for flag, value in sorted(inventory.flags.get(component, {}).items()))


def quoted(word: str) -> str:
    """One word of a command line in a unit."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if escaped == word and not any(c in word for c in " \t';") else f'"{escaped}"'
