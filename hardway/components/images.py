"""Container images: by which reference a Pod or the runtime asks for one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from hardway.inventory import Inventory

Image = Literal["agnhost", "coredns", "metrics-server", "pause"]

# Where the projects publish theirs; the Kubernetes project serves all of them.
PUBLISHED: dict[Image, str] = {
    "agnhost": "registry.k8s.io/e2e-test-images/agnhost:{version}",
    "coredns": "registry.k8s.io/coredns/coredns:v{version}",
    "metrics-server": "registry.k8s.io/metrics-server/metrics-server:v{version}",
    "pause": "registry.k8s.io/pause:{version}",
}


def reference(inventory: Inventory, name: Image) -> str:
    """The image of that name: ours where images are preloaded, else the project's own.

    Ours never carry a name of `registry.k8s.io`: they are not what is published there.
    """
    version = asdict(inventory.versions)[name.replace("-", "_")]
    return f"hardway.local/{name}:{version}" if inventory.preloads else PUBLISHED[name].format(version=version)
