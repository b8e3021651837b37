"""Which nodes a boot set means: its lists, and the grammar of `limit` (contracts, BOS 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class LimitError(ValueError):
    """A limit that can't be read, or names what nobody knows."""


class Inventory(Protocol):
    """What a limit's names are looked up in."""

    def named(self, name: str) -> set[int] | None:
        """Ids of the nodes that `name` means (a group, a role, Role_SubRole or a node); None if unknown."""


@dataclass(frozen=True)
class Term:
    """One item of a limit: how it combines, and what it names."""

    sign: str  # "" or, "&" and, "!" not
    name: str


def parse_limit(text: str | None) -> list[Term]:
    """Split a limit into terms; empty text means no limit (no terms). Raises LimitError for empty items."""
    if not text or not text.strip():
        return []
    terms = []
    for place, item in enumerate(text.split(","), start=1):
        item = item.strip()
        sign = item[:1] if item[:1] in {"&", "!"} else ""
        name = item[len(sign) :].strip()
        if not name:
            raise LimitError(f"Item {place} of the limit is empty.")
        terms.append(Term(sign, name))
    return terms


def apply_limit(terms: Iterable[Term], nodes: set[int], inventory: Inventory) -> set[int]:
    """Those of `nodes` that the terms select, applied left to right to an initially empty set.

    `all` and `*` mean the boot set's own nodes. Raises LimitError for a name that nothing bears: the
    original selects nothing then, silently (contracts, BOS 6 no. 15).
    """
    terms = list(terms)
    if not terms:
        return set(nodes)
    chosen: set[int] = set()
    for term in terms:
        if term.name in {"all", "*"}:
            meant = set(nodes)
        else:
            found = inventory.named(term.name)
            if found is None:
                raise LimitError(f"The limit names '{term.name}', which is no node, group or role.")
            meant = found
        if term.sign == "&":
            chosen &= meant
        elif term.sign == "!":
            chosen -= meant
        else:
            chosen |= meant
    return chosen & nodes


def lists_of(boot_set: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Node names, group names and role names of a boot set's document."""
    return (
        list(boot_set.get("node_list") or []),
        list(boot_set.get("node_groups") or []),
        list(boot_set.get("node_roles_groups") or []),
    )
