"""inventory.schema."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from hardway.verbs.program.console import Console


@task(auto_shortflags=False)
def schema(c: Context) -> None:
    """Print the JSON schema of inventory.yaml, for editors."""
    from hardway import inventory

    Console().json(inventory.schema())
