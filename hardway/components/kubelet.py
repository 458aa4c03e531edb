"""kubelet: runs on a node what the API says that it should run."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath

from hardway.components import containerd
from hardway.components.daemon import TLS_CIPHER_SUITES, Draft, certificate, config, daemon, kubeconfig, unit
from hardway.components.node import condition, node
from hardway.desired import Component, File, Gate, Live, Needs, Own, Pickup, Roll, Serving, Template, Trace, Use
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

PORT = 10250
SERVING = Serving(certificate="kubelet-serving", port=PORT)
CLIENT = "kube-apiserver-kubelet-client"  # as whom the API servers come, by certs/kubernetes.yaml
HEALTH_PORT = 10248
# With `kubelet: {tls: bootstrap}`: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
OWN = Own(
    common_name="system:node:{host.name}",
    organization="system:nodes",
    authority="cluster-signing",
    signer="kubernetes.io/kube-apiserver-client-kubelet",
    # Key encipherment is for RSA keys: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
    usages=frozenset(
        {frozenset({"digital signature", "client auth"}), frozenset({"digital signature", "key encipherment", "client auth"})}
    ),
    groups="system:bootstrappers:hardway",
    token=PurePosixPath("/run/hardway/kubelet.token"),
    path=PurePosixPath("/var/lib/kubelet/pki/kubelet-client-current.pem"),
)
TABLE = "hardway-kubelet"
HOLD: Draft = File(
    path=PurePosixPath("/etc/kubernetes/kubelet/hold.sh"),
    content=Template(
        source="templates/kubelet/hold.sh",
        values={"table": TABLE, "port": PORT, "stream_port": containerd.STREAM_PORT, "socket": containerd.SOCKET},
    ),
    uses=tuple(Use(reader=unit, pickup=Pickup.HANDSHAKE) for unit in ("kubelet.service", containerd.UNIT)),
)
SILENCE = 40.0  # seconds without a word from a kubelet after which its node counts as lost: node-monitor-grace-period


def registered(live: Live, host: Host) -> str | None:
    """None if the node has the range that it was allotted and its kubelet reports; else why not."""
    if (given := node(live, host)["spec"].get("podCIDR")) != str(host.pod_range):
        return f"its Node has the pod range {given}, allotted is {host.pod_range}"
    lease = live.api(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{host.name}")
    if lease.status != 200:
        return "its kubelet has not reported yet"
    age = lease.date - datetime.fromisoformat(lease.json()["spec"]["renewTime"]).timestamp()
    return None if age <= SILENCE else f"its kubelet has not reported for {age:.0f} s"


def ready(live: Live, host: Host) -> str | None:
    """None if the node is Ready; else what its kubelet says. Without a network of ours that is for others to bring about."""
    if live.inventory.network == "none":
        return None
    found = condition(node(live, host), "Ready", "no word of it")
    return None if found["status"] == "True" else f"Ready is {found['status']}: {found.get('message', '')}"


def asks(live: Live, host: Host) -> str | None:
    """None if it hears from the API who comes and what he may; else why not.

    client-go closes every connection when a handshake shows it that its own certificate has changed, also that one. Who waits for an answer
    then gets 401, and a metrics-server that gets it has nothing to tell for half a minute: so it is we who wait, if we can.
    """
    status = live.judged(host, PORT)
    return None if status in {200, 403} else f"an account that may do nothing gets {status} from it, not 403"


def version(live: Live, host: Host) -> str:
    """What the kubelet says it is, by its Node."""
    return str(node(live, host)["status"]["nodeInfo"]["kubeletVersion"]).removeprefix("v")


def own(inventory: Inventory) -> Own | None:
    """The client certificate that a kubelet asks for itself, if the inventory has it so."""
    return OWN if inventory.kubelet.tls == "bootstrap" else None


def manifests(inventory: Inventory) -> tuple[Template, ...]:
    """A Node for each worker: it is there, with its range, before its kubelet is; and who may ask for a certificate."""
    nodes = (Template(source="templates/manifests/node.yaml", values={"node": node}) for node in inventory.on("worker"))
    if own(inventory) is None:
        return tuple(nodes)
    return (Template(source="templates/manifests/kubelet-bootstrap.yaml", values={"groups": OWN.groups}), *nodes)


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a worker carries of the kubelet."""
    values = {"tls_cipher_suites": TLS_CIPHER_SUITES.split(",")}
    always = (daemon("kubelet"), config("kubelet", "config.yaml", values=values), HOLD, unit("kubelet", inventory))
    if own(inventory) is None:
        return (*always, kubeconfig("kubelet", inventory.server))
    asking = config("kubelet", "bootstrap.kubeconfig", values={"token": OWN.token})
    return (*always, kubeconfig("kubelet", inventory.server, str(OWN.path)), asking)


LEAVES = (
    Trace("groups", "kubepods"),
    Trace("groups", "kubepods.slice"),
    Trace("chains", "KUBE-"),  # by which others recognize its host: https://kubernetes.io/docs/reference/networking/virtual-ips/
    Trace("table", f"ip {TABLE}"),
    Trace("directory", "/var/lib/kubelet"),
    Trace("directory", "/var/log/pods"),
    Trace("directory", "/var/log/containers"),
    Trace("directory", "/usr/libexec/kubernetes/kubelet-plugins"),
)

COMPONENT = Component(
    name="kubelet",
    leaves=LEAVES,
    on=("worker",),
    files=files,
    programs=("kubelet",),
    serves=(SERVING,),
    needs=lambda _: Needs(ports=(PORT, HEALTH_PORT), memory=100, swapless=True, new=(PurePosixPath("/var/lib/kubelet"),)),
    version=version,
    roll=Roll(
        at_once=4,
        gates=(
            Gate(name="registered", ask=registered, within=60),
            Gate(name="ready", ask=ready, within=90),
            Gate(name="asks", ask=asks, within=60),
            certificate(SERVING),
        ),
    ),
    manifests=manifests,
    own=own,
    joins=True,
)
