"""What a verb works with: the inventory that was named, the directories beside it, the console."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from hardway.verbs.program.cli import ROOT
from hardway.verbs.program.console import Console
from hardway.verbs.program.passphrase import Passphrase

if TYPE_CHECKING:
    from hardway.inventory import Host, Inventory

HOSTS = "only these: names, roles and globs, such as 'worker-*,lb-1'; all but some: '!worker-7'"  # what `--hosts` takes, of any verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run of a verb, by one operator, for one cluster."""

    inventory: Inventory
    console: Console
    passphrase: Passphrase = field(default_factory=Passphrase)
    root: Path = ROOT  # of the repository: units/, templates/, upstream/
    debug: bool = False

    @classmethod
    def open(cls, c: Context) -> Session:
        """Read the inventory; its errors stop the verb, its warnings are told."""
        from hardway import inventory

        console = Console()
        loaded = inventory.load(Path(c.config.hardway.inventory))
        for finding in inventory.warnings(loaded):
            console.warn(finding)
        passphrase = Passphrase(file=c.config.hardway.passphrase_file, ask=console.ask)
        return replace(cls.of(loaded, console, debug=c.config.hardway.debug), passphrase=passphrase)

    @classmethod
    def of(cls, inventory: Inventory, console: Console, *, debug: bool = False) -> Session:
        """A session on an inventory as it was read: its workers are given the ranges that state/ keeps for them, new ones the next."""
        from hardway import pod_ranges
        from hardway.state import State

        bare = cls(inventory=inventory, console=console, debug=debug)
        state = State(bare.state)
        state.refuse_if_loose()
        ranges = pod_ranges.allot(inventory, pod_ranges.kept(state))
        return replace(bare, inventory=pod_ranges.placed(inventory, ranges))

    @property
    def state(self) -> Path:
        """Where this cluster's keys and certificates are kept."""
        return self.root / "state" / self.inventory.cluster

    def hosts(self, patterns: str) -> tuple[Host, ...]:
        """The hosts that `--hosts` means; all of them if it is not given."""
        from hardway.verbs.program.hosts import chosen

        return chosen(self.inventory, patterns)

    def left_alone(self, some: tuple[Host, ...], tell: Callable[[str], None]) -> None:
        """Say which hosts a verb is not about."""
        from hardway.verbs.program.hosts import called

        outside = [host.name for host in self.inventory.hosts if host not in some]
        if outside:
            tell(f"left as they are, and not looked at: {called(self.inventory, outside)}")

    @property
    def certs(self) -> Path:
        """Where the authorities are declared."""
        return self.root / "certs"


def passthrough(c: Context) -> tuple[str, ...]:
    """What stood behind `--` on the command line, word by word."""
    words: tuple[str, ...] = c.config.hardway.passthrough
    return words
