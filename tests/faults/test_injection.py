"""No value of an inventory that passes its rules adds a line to a unit, a key to a configuration, or a word to a command."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hardway import render
from hardway.errors import Mistake
from hardway.inventory import Inventory
from hardway.pki import declared
from tests.inventory.test_inventory import HOSTILE, changed, loaded

pytestmark = pytest.mark.lab
DECLARATIONS = declared.load(Path(__file__).parents[2] / "certs")
WORDS = st.text("abcXYZ019.-_:/,=@+*~^|&;<>()[]{}!#", min_size=1, max_size=20)  # what most rules let through
TYPED = st.sampled_from(["0", "1e3", "true", "null", "no", "on", "y", "0x1f", "0o17", "2026-11-25", "1.5", "00"])
PLACES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "cluster": lambda text: changed(cluster=text),
    "networks.domain": lambda text: changed(networks__domain=text),
    "endpoint.name": lambda text: changed(endpoint__name=text),
    "ssh.user": lambda text: changed(ssh__user=text),
    "ssh.host": lambda text: changed(ssh__host=text),
    "ssh.via": lambda text: changed(ssh__via=text),
    "a san": lambda text: changed(hosts__controller_1__sans=[text]),
    "a label": lambda text: changed(hosts__worker_1__labels={text: "x"}),
    "a label's value": lambda text: changed(hosts__worker_1__labels={"example.com/x": text}),
    "a flag's value": lambda text: changed(flags={"etcd": {"name-suffix": text}, "kubelet": {"node-x": text}, "kube-proxy": {"x": text}}),
    "a host's name": lambda text: changed() | {"hosts": {**changed()["hosts"], text: {"address": "10.240.0.99", "roles": ["worker"]}}},
}
PATH = re.compile(r"\.(ya?ml|kubeconfig)$")


def shapes(inventory: Inventory) -> dict[str, object]:
    """What a reader makes of each file: of a unit its sections and settings, of YAML its keys, of the rest how many lines it has."""
    found: dict[str, object] = {}
    for host in (inventory.hosts[0], inventory.on("controller")[0], inventory.on("worker")[0]):
        for path, text in render.tree(DECLARATIONS, inventory, host).items():
            name = f"{host.name}:{path}"
            if path.suffix == ".service":
                found[name] = settings_of(text)
            elif PATH.search(path.name):
                found[name] = keys_of(YAML(typ="safe").load(re.sub(r"\(.*: not shown\)", "hidden", text)))
            else:
                found[name] = len(text.splitlines())
    return found


def settings_of(unit: str) -> list[str]:
    """The sections and the names of settings, in their order, as systemd reads them: lines that end in a backslash go on."""
    return [line.partition("=")[0] for line in re.sub(r"\\\n", " ", unit).splitlines()]


def keys_of(value: Any) -> object:
    if isinstance(value, Mapping):
        return {key: keys_of(inner) for key, inner in value.items()}
    return [keys_of(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def words_of(inventory: Inventory) -> dict[str, int]:
    """How many words each command of each unit has."""
    host = inventory.on("worker")[0]
    return {
        f"{path}:{line.partition('=')[0]}{number}": len(line.split())
        for path, text in render.tree(DECLARATIONS, inventory, host).items()
        if path.suffix == ".service"
        for number, line in enumerate(re.sub(r"\\\n", " ", text).splitlines())
        if line.startswith("Exec")
    }


PLAIN = {place: shapes(loaded(make("plain"))) for place, make in PLACES.items()}
PLAIN_WORDS = {place: words_of(loaded(make("plain"))) for place, make in PLACES.items()}


@settings(max_examples=200, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.sampled_from(sorted(PLACES)), WORDS | HOSTILE | TYPED)
def test_what_a_reader_sees_has_the_same_shape_whatever_is_written(place: str, text: str) -> None:
    try:
        inventory = loaded(PLACES[place](text))
    except Mistake:
        return  # most are refused
    assert named(shapes(inventory), text) == named(PLAIN[place], "plain")
    assert words_of(inventory) == PLAIN_WORDS[place]


def named(shape: object, text: str) -> object:
    """A value may be a key, as the name of a label is: then its place is what counts."""
    if isinstance(shape, dict):
        return {"*" if key == text else key: named(inner, text) for key, inner in shape.items()}
    return [named(inner, text) for inner in shape] if isinstance(shape, list) else shape


@pytest.mark.parametrize("hostile", ["x\nExecStartPost=/bin/false", "x y", "x \\\n  --y", "${x}"])
def test_the_shape_tells_what_would_be_added(hostile: str) -> None:
    """Past the rules: else the test above proves nothing."""
    inventory = loaded(changed())
    evil = replace(inventory, flags={"kubelet": {"node-x": hostile}, "kube-proxy": {"x": hostile}, "etcd": {"name-suffix": hostile}})
    same = words_of(evil) == PLAIN_WORDS["a flag's value"] and shapes(evil) == PLAIN["a flag's value"]
    assert same == (hostile == "${x}")  # one word, whose dollar the rules refuse
