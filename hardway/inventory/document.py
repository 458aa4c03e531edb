"""A YAML file that an operator wrote, as frozen values; every error at once, each with its line.

Knows nothing of inventories: a shape is any frozen dataclass with types that pydantic reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hardway.errors import Finding, Mistake
from hardway.inventory.wording import reword, shown

T = TypeVar("T")
At = tuple[str | int, ...]


def read(path: Path, into: type[T]) -> T:
    """The file as a value of the given shape; a Mistake with every error otherwise."""
    return Document.open(path).into(into)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that was parsed: what it holds, and on which line."""

    name: str
    data: Any
    lines: dict[At, int]

    @classmethod
    def open(cls, path: Path) -> Document:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise Mistake.at(str(path), "there is no such file", "name another one, or make it") from None
        except UnicodeDecodeError as e:
            raise Mistake.at(str(path), f"is not UTF-8 (byte {e.start})", "save it as UTF-8") from None
        except OSError as e:
            raise Mistake.at(str(path), f"cannot be read: {e.strerror}") from None
        return cls.parse(text, name=str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))

    @classmethod
    def parse(cls, text: str, *, name: str) -> Document:
        yaml = YAML(typ="safe", pure=True)  # YAML 1.2: `on` is a word, not true
        try:
            root = yaml.compose(text)
            if root is None:
                raise Mistake.at(name, "is empty")
            tree = _Tree(name=name, yaml=yaml)
            data = tree.value(root, (), root.start_mark.line + 1)
        except MarkedYAMLError as e:
            line = e.problem_mark.line + 1 if e.problem_mark else 1
            problem = " ".join(part for part in (e.problem, e.context) if part)
            raise Mistake.at(f"{name}:{line}", f"is not YAML: {problem}", "often an indent or a quote on the line before") from None
        except YAMLError as e:
            raise Mistake.at(name, f"is not YAML: {str(e).splitlines()[0]}") from None
        except RecursionError:
            raise Mistake.at(name, "is nested too deeply") from None
        if tree.findings:
            raise Mistake(*tree.findings)
        return cls(name=name, data=data, lines=tree.lines)

    def where(self, *at: str | int) -> str:
        """File, line and field of a value, as a finding names them; of what contains it where it is missing."""
        return f"{self.name}:{self.line(*at)} {_dotted(at)}".rstrip()

    def line(self, *at: str | int) -> int:
        return next(self.lines[at[:end]] for end in range(len(at), -1, -1) if at[:end] in self.lines)

    def into(self, shape: type[T], *at: str | int) -> T:
        """What is at that place, as a value of the given shape."""
        data = self.data
        for step in at:
            data = data[step]
        adapter = _adapter(shape)  # type: ignore[arg-type] # a type is hashable, whatever mypy holds of type[T]
        try:
            # By way of JSON: there, strict takes text for an address, yet neither "22" nor true for a number.
            value: T = adapter.validate_json(json.dumps(data), strict=True, extra="forbid")
        except ValidationError as e:
            raise Mistake(*self._findings(e.errors(), data, at, adapter.json_schema())) from None
        return value

    def _findings(self, errors: list[ErrorDetails], data: Any, start: At, schema: Any) -> Iterator[Finding]:
        told: dict[At, list[tuple[str, str]]] = {}
        for error in errors:
            at = _place(data, error)
            known = [key for one in _schemas(schema, at[:-1]) for key in _keys(one)]
            formats = {one["format"] for one in _schemas(schema, at) if "format" in one}
            told.setdefault(at, []).append(reword(error, known=known, formats=formats))
        for at, words in sorted(told.items(), key=lambda item: self.line(*start, *item[0])):
            # Several at one place: each member of a union says why it is not the one.
            what = " or ".join(dict.fromkeys(what for what, _ in words))
            yield Finding(where=self.where(*start, *at), what=what, next_step=words[0][1] if len(words) == 1 else "")


@cache
def _adapter(shape: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


class _Tree:
    """Turns YAML nodes into plain values and remembers their lines."""

    def __init__(self, *, name: str, yaml: YAML) -> None:
        self.name = name
        self.scalar = yaml.constructor.construct_object
        self.lines: dict[At, int] = {}
        self.findings: list[Finding] = []
        self.seen: set[int] = set()

    def value(self, node: Node, at: At, line: int) -> Any:
        self.lines[at] = line
        if id(node) in self.seen:
            return self.wrong(line, at, "an alias is not read here", "write the value out")
        self.seen.add(id(node))
        if isinstance(node, MappingNode):
            return self.mapping(node, at)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*at, i), item.start_mark.line + 1) for i, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self.plain(node, at, line)
        raise TypeError(type(node))

    def mapping(self, node: MappingNode, at: At) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self.wrong(line, at, "a key must be a word")
            elif key.value in values:
                first = self.lines[(*at, key.value)]
                self.wrong(line, (*at, key.value), f"is there twice, first on line {first}", "remove one of them")
            else:
                values[key.value] = self.value(value, (*at, key.value), line)
        return values

    def plain(self, node: ScalarNode, at: At, line: int) -> Any:
        kind = str(node.tag).rpartition(":")[2]
        if kind in {"str", "timestamp"}:
            return node.value
        bare = node.value.lstrip("+-0")
        if kind == "int" and node.value.lstrip("+-").startswith("0") and bare.isdigit():
            return self.wrong(
                line, at, f"{node.value} is read in two ways", f'write "{node.value}", or {"0o" * (not set(bare) & set("89"))}{bare}'
            )
        if kind in {"int", "float", "bool", "null"}:
            try:
                return self.scalar(node)
            except ValueError:
                return node.value
        return self.wrong(line, at, f"the tag {shown(str(node.tag), quote=False)} is not read here", "write a plain value")

    def wrong(self, line: int, at: At, what: str, next_step: str = "") -> None:
        self.findings.append(Finding(where=f"{self.name}:{line} {_dotted(at)}".rstrip(), what=what, next_step=next_step))


def _dotted(at: At) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step, quote=False)}" for step in at).lstrip(".")


def _place(data: Any, error: ErrorDetails) -> At:
    """The error's place in the data: without the names of union members that pydantic adds."""
    at: list[str | int] = []
    here: Any = data
    for step in error["loc"]:
        found = step in here if isinstance(here, dict) else isinstance(here, list) and isinstance(step, int) and step < len(here)
        if found:
            here = here[step]
        elif error["type"] != "missing" or step != error["loc"][-1]:
            continue
        at.append(step)
    return tuple(at)


def _schemas(root: Any, at: At) -> list[Any]:
    """What the JSON schema says of a place: several, where it is a union."""
    here = [root]
    for step in at:
        here = [below for one in _members(root, here) for below in _below(one, step)]
    return list(_members(root, here))


def _keys(schema: Any) -> list[str]:
    return [*schema.get("properties", ()), *schema.get("propertyNames", {}).get("enum", ())]


def _members(root: Any, schemas: list[Any]) -> Iterator[Any]:
    for schema in schemas:
        if "$ref" in schema:
            yield from _members(root, [root["$defs"][schema["$ref"].rpartition("/")[2]]])
        elif "anyOf" in schema or "oneOf" in schema:
            yield from _members(root, schema.get("anyOf") or schema["oneOf"])
        else:
            yield schema


def _below(schema: Any, step: str | int) -> Iterator[Any]:
    found = schema.get("items") if isinstance(step, int) else schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    if isinstance(found, dict):
        yield found
