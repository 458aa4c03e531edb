"""References of container images: ours where they are preloaded, the projects' own where they are pulled."""

from dataclasses import replace
from pathlib import Path

import pytest

from hardway.components.images import PUBLISHED, reference
from hardway.inventory import Inventory, load

SHIPPED = load(Path(__file__).parents[2] / "inventory.yaml")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_lab_asks_for_images_of_ours(name: str) -> None:
    assert reference(SHIPPED, name).startswith(f"hardway.local/{name}:")


def asked(inventory: Inventory) -> dict[str, str]:
    return {name: reference(inventory, name) for name in PUBLISHED}


def test_other_machines_pull_what_the_projects_publish() -> None:
    assert (
        asked(replace(SHIPPED, lab=None))
        == asked(replace(SHIPPED, images="pull"))
        == {
            "agnhost": "registry.k8s.io/e2e-test-images/agnhost:2.66.1",
            "coredns": "registry.k8s.io/coredns/coredns:v1.15.0",
            "metrics-server": "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
            "pause": "registry.k8s.io/pause:3.10.2",
        }
    )


def test_images_are_preloaded_elsewhere_where_the_inventory_says_so() -> None:
    assert asked(replace(SHIPPED, lab=None, images="preload")) == asked(SHIPPED)
