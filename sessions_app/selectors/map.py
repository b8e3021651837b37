"""The node map: as a compact document for the script, and in words by cabinet."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sessions_app.models import BootSession, NodePhase
from sessions_app.states import Category

LETTERS: dict[str, str] = {
    Category.NOT_STARTED: "n",
    Category.IN_PROGRESS: "i",
    Category.SUCCEEDED: "s",
    Category.FAILED: "f",
    Category.EXCLUDED: "e",
}


def map_document(session: BootSession) -> dict[str, Any]:
    """The node map: per boot set the names, and per phase one letter a node in the same order.

    `since`: seconds after `began` (Unix time) at which the node changed last, -1 for never.
    """
    began = int(session.created_at.timestamp())
    sets: dict[str, dict[str, Any]] = {}
    rows = (
        NodePhase.objects.of_session(session.pk)
        .order_by("phase__boot_set__position", "phase__position", "node_id")
        .values_list(
            "phase__boot_set__name", "phase__name", "node__name", "category", "started_at", "stopped_at"
        )
    )
    for set_name, phase, name, category, started, stopped in rows:
        members = sets.setdefault(set_name, {"nodes": {}, "phases": {}})
        members["phases"].setdefault(phase, []).append(LETTERS[category])
        changed = stopped or started
        at = int(changed.timestamp()) - began if changed else -1
        members["nodes"][name] = max(members["nodes"].get(name, -1), at)
    return {
        "session": str(session.uuid),
        "began": began,
        "sets": [
            {
                "name": name,
                "nodes": " ".join(members["nodes"]),
                "since": list(members["nodes"].values()),
                "phases": [
                    {"name": phase, "letters": "".join(letters)}
                    for phase, letters in members["phases"].items()
                ],
            }
            for name, members in sets.items()
        ],
    }


@dataclass
class Cabinet:
    """Counts of a cabinet: the map in words."""

    name: str
    counts: dict[str, int]

    @property
    def total(self) -> int:
        """Its nodes."""
        return sum(self.counts.values())


def cabinets_of(session: BootSession) -> list[Cabinet]:
    """Nodes by cabinet and by where they stand overall; one query."""
    places: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, category in overall_categories(session).items():
        places[cabinet_of(name)][category] += 1
    order = sorted(places, key=lambda name: (len(name), name))
    return [Cabinet(name, dict(places[name])) for name in order]


def cabinet_of(name: str) -> str:
    """`x1000` of `x1000c0s0b0n0`; of other names the part before the number."""
    if name[:1] == "x" and "c" in name:
        return name.split("c", 1)[0]
    return name.rstrip("0123456789") or name


def overall_categories(session: BootSession) -> dict[str, str]:
    """Where each node stands over all its phases, as the map colours it."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, category in NodePhase.objects.of_session(session.pk).values_list("node__name", "category"):
        found[name].add(category)
    return {name: overall(categories) for name, categories in found.items()}


def overall(categories: set[str]) -> str:
    """Failed before in progress before excluded; between two phases it is in progress."""
    for category in (Category.FAILED, Category.IN_PROGRESS, Category.EXCLUDED):
        if category in categories:
            return category
    if categories == {Category.SUCCEEDED}:
        return Category.SUCCEEDED
    return Category.IN_PROGRESS if Category.SUCCEEDED in categories else Category.NOT_STARTED
