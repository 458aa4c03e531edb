"""What the operator wrote: inventory.yaml as frozen values."""

from hardway.inventory.loading import load, schema
from hardway.inventory.rules import warnings
from hardway.inventory.values import Binaries, Endpoint, Host, Inventory, Kubelet, Lab, Networks, Role, Ssh, Versions

__all__ = [
    "Binaries",
    "Endpoint",
    "Host",
    "Inventory",
    "Kubelet",
    "Lab",
    "Networks",
    "Role",
    "Ssh",
    "Versions",
    "load",
    "schema",
    "warnings",
]
