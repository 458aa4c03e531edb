"""kube-apiserver: the API; the only one that talks to etcd."""

from __future__ import annotations

from hardway.components import etcd
from hardway.components.daemon import TLS_CIPHER_SUITES, Draft, certificate, config, daemon, next_minor, unit, user
from hardway.desired import Answer, Component, Gate, Live, Needs, Pickup, Roll, Serving, Template, Trace
from hardway.errors import Mistake
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

PORT = 6443
SERVING = Serving(certificate="kube-apiserver", port=PORT)


def url(host: Host) -> str:
    """One host's own API server."""
    return f"https://{host.address}:{PORT}"


def ready(live: Live, host: Host | None) -> str | None:
    """None if the instance, or the one that the endpoint leads to, says that it is ready; else which of its checks are not."""
    answer = live.api("/readyz?verbose", host=host)
    failed = subchecks(answer, "[-]")
    if answer.status == 200 and not failed:
        return None
    return f"/readyz says {answer.status}" + (f": {', '.join(failed)}" if failed else "")


def subchecks(answer: Answer, sign: str) -> list[str]:
    """What a verbose /readyz lists with [+] or [-]."""
    lines = answer.body.decode(errors="replace").splitlines()
    return [line.removeprefix(sign).split()[0] for line in lines if line.startswith(sign)]


def version(live: Live, host: Host | None) -> str:
    """What an instance says it is, such as v1.37.2."""
    answer = live.api("/version", host=host)
    if answer.status != 200:
        raise Mistake.at(host.name if host else live.inventory.server, f"/version says {answer.status}")
    return str(answer.json()["gitVersion"])


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a controller carries of the API server."""
    return (
        user("kube-apiserver"),
        daemon("kube-apiserver"),
        config("kube-apiserver", "authentication.yaml", pickup=Pickup.WATCH),
        config("kube-apiserver", "audit-policy.yaml"),
        config("kube-apiserver", "encryption.yaml", pickup=Pickup.POLL, secret=True),
        unit(
            "kube-apiserver",
            inventory,
            version=inventory.versions.kubernetes,
            etcd_servers=etcd.servers(inventory),
            tls_cipher_suites=TLS_CIPHER_SUITES,
        ),
    )


COMPONENT = Component(
    name="kube-apiserver",
    guard=lambda host, _, old, new: next_minor(host, "kube-apiserver", old, new),
    leaves=(Trace("directory", "/var/log/kube-apiserver"),),
    on=("controller",),
    files=files,
    programs=("kube-apiserver",),
    serves=(SERVING,),
    needs=lambda _: Needs(ports=(PORT,), memory=400),
    version=lambda live, host: version(live, host).removeprefix("v"),
    roll=Roll(
        gates=(
            Gate(name="ready", ask=ready, within=90),
            certificate(SERVING),
        )
    ),
    manifests=lambda _: (
        Template(source="templates/manifests/administrators.yaml"),
        Template(source="templates/manifests/kubelet-client.yaml"),
    ),
)
