"""From the file to the Inventory, and the file's JSON schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hardway.errors import Mistake
from hardway.inventory import rules, spelling
from hardway.inventory.document import Document
from hardway.inventory.draft import Draft
from hardway.inventory.values import Inventory
from hardway.inventory.written import Written


def load(path: Path) -> Inventory:
    """The inventory in a file; a Mistake with every error in it."""
    return understand(Document.open(path), directory=path.parent)


def understand(document: Document, *, directory: Path) -> Inventory:
    """The inventory in a document that was read; paths in it start at the directory."""
    findings = []
    written = None
    try:
        written = document.into(Written)
    except Mistake as e:
        findings = list(e.findings)
    draft = Draft.of(document)
    findings += [*spelling.check(draft), *rules.check(draft)]
    if findings or written is None:
        raise Mistake(*findings)
    return written.inventory(directory=directory)


def schema() -> dict[str, Any]:
    """What editors complete and check inventory.yaml by."""
    described = TypeAdapter(Written).json_schema()
    _close(described)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described, "title": "inventory.yaml"}


def _close(described: Any) -> None:
    """Unknown keys are refused at every level; pydantic is told so when it validates, not in the shapes."""
    if isinstance(described, dict):
        if "properties" in described:
            described["additionalProperties"] = False
        for below in described.values():
            _close(below)
    elif isinstance(described, list):
        for below in described:
            _close(below)
