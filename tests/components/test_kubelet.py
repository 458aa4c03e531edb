"""How a kubelet comes by its client certificate: brought to it, or asked for by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import cast

import pytest

from hardway import pod_ranges, render
from hardway.components import ALL, kubelet
from hardway.components.kubelet import OWN
from hardway.desired import Blob, Content, File, Live, Pickup
from hardway.inventory import Inventory, load
from hardway.inventory.values import Kubelet
from hardway.pki import declared
from hardway.pki.credentials import placeholders

ROOT = Path(__file__).parents[2]
WRITTEN = load(ROOT / "inventory.yaml")
ISSUED = pod_ranges.placed(WRITTEN, pod_ranges.allot(WRITTEN, {}))
BOOTSTRAP = dataclasses.replace(ISSUED, kubelet=Kubelet(tls="bootstrap"))
DECLARATIONS = declared.load(ROOT / "certs")
HERE = PurePosixPath("/etc/kubernetes/kubelet")
UNIT = PurePosixPath("/etc/systemd/system/kubelet.service")
API_SERVER = PurePosixPath("/etc/systemd/system/kube-apiserver.service")


def rendered(inventory: Inventory, role: str = "worker") -> dict[PurePosixPath, str]:
    return render.tree(DECLARATIONS, inventory, next(host for host in inventory.hosts if role in host.roles))


def manifests(inventory: Inventory) -> dict[str, object]:
    found = (manifest for component in ALL for manifest in render.manifests(component, inventory))
    return {manifest.name: [one.get("name") for one in manifest.object.get("subjects", ())] for manifest in found}


def test_a_kubelet_that_asks_has_no_certificate_of_a_client_brought_and_one_that_it_serves() -> None:
    issued, asking = rendered(ISSUED), rendered(BOOTSTRAP)

    assert issued.keys() - asking.keys() == {HERE / "client.pem"}
    assert asking.keys() - issued.keys() == {HERE / "bootstrap.kubeconfig"}
    assert str(OWN.path) in asking[HERE / "kubeconfig"]
    assert "rotateCertificates: true" in asking[HERE / "config.yaml"]
    assert f"tokenFile: {OWN.token}\n" in asking[HERE / "bootstrap.kubeconfig"]
    assert "  --kubeconfig=/run/kubelet/kubeconfig \\\n" in asking[UNIT]
    assert "bootstrap" not in issued[UNIT] + issued[HERE / "config.yaml"]


def test_the_api_servers_know_tokens_of_this_kind_only_where_kubelets_ask() -> None:
    flag = "  --enable-bootstrap-token-auth=true \\\n"

    assert flag in rendered(BOOTSTRAP, "controller")[API_SERVER]
    assert flag not in rendered(ISSUED, "controller")[API_SERVER]


@pytest.mark.parametrize(("status", "why"), [(403, None), (200, None), (401, "an account that may do nothing gets 401 from it, not 403")])
def test_it_has_to_hear_from_the_api_who_comes(status: int, why: str | None) -> None:
    """401 is what it says to everybody when it cannot ask; what the account then may is no matter of the kubelet's."""
    live = SimpleNamespace(judged=lambda host, port: {("worker-1", 10250): status}[host.name, port])

    assert kubelet.asks(cast("Live", live), ISSUED.on("worker")[0]) == why


def test_whom_it_trusts_is_read_at_its_start_by_a_kubelet_that_asks() -> None:
    def pickup(inventory: Inventory) -> Pickup:
        (host, *_), credentials = inventory.on("worker"), placeholders(DECLARATIONS, inventory)
        file: File[Content] = next(file for file in credentials.files(host) if file.path == HERE / "ca.crt")
        return file.uses[0].pickup

    assert (pickup(ISSUED), pickup(BOOTSTRAP)) == (Pickup.POLL, Pickup.RESTART)


def test_tokens_may_ask_nodes_may_ask_anew_and_nobody_approves_what_tokens_ask() -> None:
    added = {name: who for name, who in manifests(BOOTSTRAP).items() if name not in manifests(ISSUED)}

    assert added == {
        "clusterrolebinding/hardway:kubelet-bootstrap": [OWN.groups],
        "clusterrolebinding/hardway:kubelet-renewal": ["system:nodes"],
    }
    texts = [str(one.object) for component in ALL for one in render.manifests(component, BOOTSTRAP)]
    assert not any("certificatesigningrequests:nodeclient" in text for text in texts)


@pytest.mark.parametrize(("inventory", "asks"), [(ISSUED, None), (BOOTSTRAP, OWN)])
def test_its_part_says_what_it_asks_for_and_who_has_to_have_signed_it(inventory: Inventory, asks: object) -> None:
    credentials = placeholders(DECLARATIONS, inventory)
    programs = {name: Blob(sha256="0" * 64, size=0, local=Path(name)) for component in ALL for name in component.programs}
    found = render.parts(inventory, inventory.on("worker")[0], render.ANY, credentials, programs)

    part = next(part for part in found if part.component == kubelet.COMPONENT.name)
    assert part.own == asks
    assert part.trusted == (credentials.trusts["cluster-signing"].bundle if asks else "")
