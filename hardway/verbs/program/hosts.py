"""Hosts by the words of an operator: those that `--hosts` means, and many of them in few words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import get_args

from hardway.errors import Mistake
from hardway.inventory import Host, Inventory, Role

FEW = 6  # names that are told one by one, as those of the shipped inventory are

FIRST = 3  # of more than these


def chosen(inventory: Inventory, patterns: str) -> tuple[Host, ...]:
    """The hosts that a list of names, roles and globs means, in the order of the inventory; `!` before one takes its hosts away.

    All of them if it is empty. A Mistake if a part of it means no host, or nothing is left.
    """
    words = [word.strip() for word in patterns.split(",") if word.strip()]
    found = set() if any(not word.startswith("!") for word in words) else set(inventory.hosts)
    for word in sorted(words, key=lambda word: word.startswith("!")):
        meant = {host for host in inventory.hosts if _means(word.removeprefix("!"), host)}
        if not meant:
            raise Mistake.at("--hosts", f"{word} means no host of the inventory", _near(inventory, word.removeprefix("!")))
        found = found - meant if word.startswith("!") else found | meant
    if not found:
        raise Mistake.at("--hosts", f"{patterns} leaves no host")
    return tuple(host for host in inventory.hosts if host in found)


def _means(word: str, host: Host) -> bool:
    return word in host.roles or fnmatchcase(host.name, word)


def _near(inventory: Inventory, word: str) -> str:
    roles = [role for role in get_args(Role) if inventory.on(role)]
    near = difflib.get_close_matches(word, [*(host.name for host in inventory.hosts), *roles], n=1)
    return (
        f"did you mean {near[0]}?"
        if near
        else f"it has {shortened([host.name for host in inventory.hosts])}; its roles are {', '.join(roles)}"
    )


def called(inventory: Inventory, names: Iterable[str]) -> str:
    """Hosts in few words: `every worker`, or the first ones and how many more."""
    several = list(dict.fromkeys(names))
    for role in get_args(Role):
        if len(several) > 1 and set(several) == {host.name for host in inventory.on(role)}:
            return f"every {role}"
    if len(several) > 1 and len(several) == len(inventory.hosts):
        return "every host"
    return shortened(several)


def shortened(names: Iterable[str]) -> str:
    """Names, the first ones and how many more."""
    several = list(names)
    return ", ".join(several) if len(several) <= FEW else f"{', '.join(several[:FIRST])} and {len(several) - FIRST} more"
