"""Which nodes a session will have, and which are left out and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from accounts_app.models import Domain
from sessions_app.limit import Term, apply_limit, lists_of, parse_limit
from sessions_app.models import BosOptions, Node, NodeGroup
from sessions_app.models.nodes import natural
from sessions_app.reading import within

NAMES_AT_ONCE = 5000
FEW_TERMS = 3  # so many names of a limit are looked up one by one


@dataclass(frozen=True, slots=True)
class Candidate:
    """What of a node decides whether a boot set takes it."""

    id: int
    name: str
    arch: str
    domain_id: int | None
    hardware_enabled: bool
    locked: bool


@dataclass
class Chosen:
    """The nodes of each boot set, in natural order, and what is left out, by reason."""

    boot_sets: dict[str, list[Candidate]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many nodes the session will have."""
        return sum(len(nodes) for nodes in self.boot_sets.values())

    def leave_out(self, reason: str, names: Iterable[str]) -> None:
        """Say why these are not taken."""
        names = sorted(names, key=natural)
        if names:
            self.left_out.setdefault(reason, []).extend(names)


class Inventory:
    """Looks names up in the database, each name once."""

    def __init__(self) -> None:
        self._known: dict[str, set[int] | None] = {}

    def group(self, name: str) -> set[int]:
        """Ids of a group's nodes."""
        return set(Node.objects.filter(groups__name=name).values_list("id", flat=True))

    def role(self, name: str) -> set[int]:
        """Ids of the nodes of a role or Role_SubRole."""
        role, _, subrole = name.partition("_")
        nodes = Node.objects.filter(role=role)
        if subrole:
            nodes = nodes.filter(subrole=subrole)
        return set(nodes.values_list("id", flat=True))

    def nodes(self, names: Iterable[str]) -> dict[str, int]:
        """Id by name for those that exist."""
        names = list(names)
        found: dict[str, int] = {}
        for start in range(0, len(names), NAMES_AT_ONCE):
            part = names[start : start + NAMES_AT_ONCE]
            found.update(Node.objects.filter(name__in=part).values_list("name", "id"))
        return found

    def learn_nodes(self, names: Iterable[str]) -> None:
        """Look up many names of nodes at once: a limit may name thousands. Names that a group or a role bears
        too are left to `named`, for these come first."""
        names = set(names)
        roles = set(Node.objects.order_by().values_list("role", flat=True).distinct())
        groups = set(NodeGroup.objects.values_list("name", flat=True))
        plain = {name for name in names if name not in groups and name.partition("_")[0] not in roles}
        found = self.nodes(name.lower() for name in plain)
        self._known.update((name, {found[name.lower()]}) for name in plain if name.lower() in found)

    def named(self, name: str) -> set[int] | None:
        """Ids of the nodes that a limit's name means: a group, a role, or a node; None if nothing."""
        if name not in self._known:
            self._known[name] = (
                self.group(name) or self.role(name) or set(self.nodes([name.lower()]).values()) or None
            )
        return self._known[name]


def choose(
    boot_sets: dict[str, dict[str, Any]], *, limit: str, include_disabled: bool, domain: Domain | None
) -> Chosen:
    """Resolve boot sets to nodes.

    Lists, groups and roles together, narrowed by the limit, without locked nodes, other tenants' nodes,
    other architectures and (unless `include_disabled`) disabled hardware. A node in two boot sets belongs
    to the later one. Raises LimitError, and TooSlow where the inventory takes longer than it may.
    """
    with within(BosOptions.current()["hsm_read_timeout"]):
        return _choose(boot_sets, limit=limit, include_disabled=include_disabled, domain=domain)


def _choose(
    boot_sets: dict[str, dict[str, Any]], *, limit: str, include_disabled: bool, domain: Domain | None
) -> Chosen:
    terms = parse_limit(limit)
    inventory = Inventory()
    if len(terms) > FEW_TERMS:
        inventory.learn_nodes(term.name for term in terms)
    chosen = Chosen()
    owner: dict[int, str] = {}
    for name, boot_set in boot_sets.items():
        candidates = _candidates(_meant(boot_set, terms, inventory, chosen))
        kept = _fit(candidates, boot_set, include_disabled, domain, chosen)
        for node in kept:
            if node.id in owner:
                earlier = chosen.boot_sets[owner[node.id]]
                earlier[:] = [other for other in earlier if other.id != node.id]
            owner[node.id] = name
        chosen.boot_sets[name] = sorted(kept, key=lambda node: natural(node.name))
    return chosen


def _meant(boot_set: dict[str, Any], terms: list[Term], inventory: Inventory, chosen: Chosen) -> set[int]:
    names, groups, roles = lists_of(boot_set)
    found = inventory.nodes(name.lower() for name in names)
    chosen.leave_out("not in the inventory", {name.lower() for name in names} - found.keys())
    ids = set(found.values())
    for group in groups:
        ids |= inventory.group(group)
    for role in roles:
        ids |= inventory.role(role)
    return apply_limit(terms, ids, inventory)


def _candidates(ids: set[int]) -> list[Candidate]:
    ordered = sorted(ids)
    fields = ("id", "name", "arch", "domain_id", "hardware_enabled", "locked")
    found = []
    for start in range(0, len(ordered), NAMES_AT_ONCE):
        part = Node.objects.filter(id__among=ordered[start : start + NAMES_AT_ONCE])
        found += [Candidate(*row) for row in part.values_list(*fields)]
    return found


def _fit(
    nodes: list[Candidate],
    boot_set: dict[str, Any],
    include_disabled: bool,
    domain: Domain | None,
    chosen: Chosen,
) -> list[Candidate]:
    """Those that may be taken; the others are noted with the reason."""
    arch = boot_set.get("arch") or "X86"
    # The original means Unknown to count as X86 and drops it by a slip (contracts, BOS 6 no. 20).
    archs = {"X86", "Unknown", ""} if arch == "X86" else {arch}
    reasons: list[tuple[str, Any]] = [
        ("locked", lambda node: node.locked),
        ("belongs to another tenant", lambda node: domain is not None and node.domain_id != domain.id),
        (f"not of architecture {arch}", lambda node: node.arch not in archs),
        ("disabled in the inventory", lambda node: not include_disabled and not node.hardware_enabled),
    ]
    for reason, applies in reasons:
        chosen.leave_out(reason, [node.name for node in nodes if applies(node)])
        nodes = [node for node in nodes if not applies(node)]
    return nodes
