"""The reader knows nothing of inventories: these shapes are the tests' own."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardway.errors import Mistake
from hardway.inventory.document import Document, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    address: IPv4Address
    roles: frozenset[Literal["controller", "worker"]]
    port: int = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    hosts: dict[str, Inner] = field(default_factory=dict)
    net: IPv4Network | None = None
    paths: tuple[Path, ...] = ()
    either: str | list[str] = ""
    sudo: bool = False


def lines(text: str) -> list[str]:
    with pytest.raises(Mistake) as caught:
        Document.parse(text, name="f.yaml").into(Outer)
    return str(caught.value).splitlines()


def test_values_come_out_with_their_types(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("name: x\nhosts: {a: {address: 10.0.0.1, roles: [worker]}}\nnet: 10.0.0.0/8\npaths: [/a]\nsudo: true\n")

    expected = Outer(
        name="x",
        hosts={"a": Inner(address=IPv4Address("10.0.0.1"), roles=frozenset({"worker"}))},
        net=IPv4Network("10.0.0.0/8"),
        paths=(Path("/a"),),
        sudo=True,
    )
    assert expected == read(file, Outer)


def test_every_error_is_told_at_once_with_line_and_field_in_the_order_of_the_file() -> None:
    text = """\
name: 5
hosts:
  a: {adress: 10.0.0.1, roles: [controler], port: "22"}
  b:
    address: fd00::1
    roles: worker
    port: true
  c: 7
net: 10.1.2.3/24
bogus: 1
either: {}
sudo: yes
"""

    expected = [
        "f.yaml:1 name: must be text, not 5; put it in quotes",
        "f.yaml:3 hosts.a.address: is missing; add it",
        'f.yaml:3 hosts.a.roles[0]: "controler" is not one of controller, worker; did you mean controller?',
        'f.yaml:3 hosts.a.port: must be a whole number, not "22"',
        "f.yaml:3 hosts.a.adress: unknown key; did you mean address?",
        'f.yaml:5 hosts.b.address: "fd00::1" is IPv6, which is not supported yet; write an IPv4 address',
        'f.yaml:6 hosts.b.roles: must be a list, not "worker"',
        "f.yaml:7 hosts.b.port: must be a whole number, not true",
        "f.yaml:8 hosts.c: must be a mapping, not 7",
        'f.yaml:9 net: "10.1.2.3/24" is no IPv4 network; did you mean 10.1.2.0/24?',
        "f.yaml:10 bogus: unknown key; known: name, hosts, net, paths, either, sudo",
        "f.yaml:11 either: must be text, not a mapping or must be a list, not a mapping",
        'f.yaml:12 sudo: must be true or false, not "yes"',
    ]
    assert expected == lines(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nname: b", "f.yaml:2 name: is there twice, first on line 1; remove one of them"),
        ("name: a\nhosts:\n  x: 1\n  x: 2", "f.yaml:4 hosts.x: is there twice, first on line 3; remove one of them"),
        ("name: 0640", 'f.yaml:1 name: 0640 is read in two ways; write "0640", or 0o640'),
        ("name: 089", 'f.yaml:1 name: 089 is read in two ways; write "089", or 89'),
        ("name: &a b\neither: *a", "f.yaml:2 either: an alias is not read here; write the value out"),
        ("name: !!binary aGk=", "f.yaml:1 name: the tag tag:yaml.org,2002:binary is not read here; write a plain value"),
        ("? [a]\n: b", "f.yaml:1: a key must be a word"),
        ("", "f.yaml: is empty"),
        ("# nothing\n", "f.yaml: is empty"),
        ("- a", "f.yaml:1: must be a mapping, not a list"),
        ("name: [", "f.yaml:1: is not YAML: "),
        ("name: a\n---\nname: b", "f.yaml:2: is not YAML: "),
        ("name: \x01", "f.yaml: is not YAML: "),
        ("[" * 600, "f.yaml: is nested too deeply"),
    ],
)
def test_what_yaml_allows_and_an_operator_does_not_mean_is_refused(text: str, expected: str) -> None:
    (line,) = lines(text)

    assert line.startswith(expected)


def test_words_that_older_yaml_took_for_true_are_words() -> None:
    assert Document.parse("name: on", name="f").into(Outer).name == "on"


def test_a_date_is_text() -> None:
    assert Document.parse("name: 2026-11-24", name="f").into(Outer).name == "2026-11-24"


def test_a_secret_in_the_wrong_place_is_not_shown() -> None:
    (line,) = lines("name: x\nsudo: |\n  -----BEGIN PRIVATE KEY-----\n  canary\n")

    assert "canary" not in line
    assert "BEGIN" not in line


@pytest.mark.parametrize("name", ["missing.yaml", "folder", "binary.yaml"])
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")

    with pytest.raises(Mistake, match=name):
        read(tmp_path / name, Outer)


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_a_value_or_a_mistake_of_whole_lines(text: str) -> None:
    try:
        Document.parse(text, name="f").into(Outer)
    except Mistake as e:
        assert all(len(str(finding).splitlines()) == 1 for finding in e.findings)  # noqa: PT017 (either is fine)
        assert e.findings  # noqa: PT017 (the same)


def test_a_file_below_the_current_directory_is_named_as_the_operator_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f.yaml").write_text("nam: x\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Mistake, match=r"^f\.yaml:1 name: is missing"):
        read(tmp_path / "f.yaml", Outer)
    monkeypatch.chdir("/")
    with pytest.raises(Mistake, match=rf"^{str(tmp_path)[1:]}/f\.yaml:1 name: is missing"):
        read(tmp_path / "f.yaml", Outer)
