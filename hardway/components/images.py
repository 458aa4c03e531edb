"""Container images: by which reference a Pod or the runtime asks for one."""

from __future__ import annotations

from hardway.inventory import Inventory

# Where the projects publish theirs; the Kubernetes project serves all of them.
PUBLISHED: dict[str, str] = {
    "agnhost": "registry.k8s.io/e2e-test-images/agnhost:{version}",
    "coredns": "registry.k8s.io/coredns/coredns:v{version}",
    "metrics-server": "registry.k8s.io/metrics-server/metrics-server:v{version}",
    "pause": "registry.k8s.io/pause:{version}",
}


def reference(inventory: Inventory, name: str) -> str:
    """The image of that name: ours where images are preloaded, else the project's own."""
    if inventory.preloads:
        return inventory.versions.image(name)
    return PUBLISHED[name].format(version=inventory.versions.of(name))
