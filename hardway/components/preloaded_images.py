"""preloaded-images: what the cluster's own Pods run, made from the programs and brought to each worker."""

from __future__ import annotations

from pathlib import PurePosixPath

from hardway.components.daemon import PROGRAMS, Draft, config, unit
from hardway.components.images import reference
from hardway.desired import Component, File, Gate, Live, Pickup, Program, Roll, Use
from hardway.inventory import Host, Inventory
from hardway.observed import Facts

UNIT = "preloaded-images.service"
DIRECTORY = PurePosixPath("/usr/local/share/kubernetes/images")
IMAGES = ("pause", "coredns", "metrics-server", "agnhost")
PINNED = "io.cri-containerd.pinned=pinned"  # no garbage collection removes such an image: nobody could pull it again


def there(live: Live, host: Host) -> str | None:
    """None if the runtime has every image, pinned; else which it has not."""
    listed = live.run(host, str(PROGRAMS / "ctr"), "--namespace", "k8s.io", "images", "list")
    pinned = {line.split()[0] for line in listed.splitlines() if PINNED in line}
    missing = [image for name in IMAGES if (image := reference(live.inventory, name)) not in pinned]
    return f"{', '.join(missing)} is not there, or not pinned" if missing else None


def files(inventory: Inventory, host: Host, facts: Facts) -> tuple[Draft, ...]:  # noqa: ARG001 - every component has this signature
    """What a worker carries of them."""
    references = [reference(inventory, name) for name in IMAGES]
    archives = tuple(
        File(path=DIRECTORY / f"{name}.oci", content=Program(f"{name}.oci"), uses=(Use(reader=UNIT, pickup=Pickup.RESTART),))
        for name in IMAGES
    )
    return (
        *archives,
        config("preloaded-images", "import.sh", values={"directory": DIRECTORY, "references": references, "pinned": PINNED}),
        unit("preloaded-images", inventory),
    )


COMPONENT = Component(
    name="preloaded-images",
    on=("worker",),
    wanted=lambda inventory: inventory.preloads,
    files=files,
    programs=tuple(f"{name}.oci" for name in IMAGES),
    # Some 200 MB are read, hashed and written: seconds, or minutes where a machine is emulated.
    roll=Roll(at_once=4, gates=(Gate(name="there", ask=there, within=300, command=True),)),
)
