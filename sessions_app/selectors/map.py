"""The node map: as a compact document for the script, and in words by cabinet."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.db.models import Max
from django.db.models.functions import Coalesce

from sessions_app.models import BootSession, Node, NodePhase, Phase
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

    `since`: seconds after `began` (Unix time) at which the node changed last, -1 for never. Rows come
    without joins and without times of their own: for 10,000 nodes these would be most of the work.
    """
    began = int(session.created_at.timestamp())
    phases = Phase.objects.filter(boot_set__session=session).order_by("boot_set__position", "position")
    rows = NodePhase.objects.of_session(session.pk)
    letters: dict[int, dict[int, str]] = defaultdict(dict)
    for phase_id, node_id, category in rows.values_list("phase_id", "node_id", "category"):
        letters[phase_id][node_id] = LETTERS[category]
    changed = rows.values("node_id").annotate(at=Max(Coalesce("stopped_at", "started_at")))
    since = {
        node_id: int(at.timestamp()) - began if at else -1
        for node_id, at in changed.values_list("node_id", "at")
    }
    names = dict(Node.objects.filter(id__in=rows.values("node_id")).values_list("id", "name"))
    sets: dict[str, dict[str, Any]] = {}
    for phase in phases.select_related("boot_set"):
        of_phase = letters[phase.pk]
        order = sorted(of_phase)
        members = sets.setdefault(
            phase.boot_set.name,
            {
                "name": phase.boot_set.name,
                "nodes": " ".join(names[node_id] for node_id in order),
                "since": [since[node_id] for node_id in order],
                "phases": [],
            },
        )
        text = "".join(of_phase[node_id] for node_id in order)
        members["phases"].append({"name": phase.name, "letters": text})
    return {"session": str(session.uuid), "began": began, "sets": list(sets.values())}


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
    found: dict[int, set[str]] = defaultdict(set)
    rows = NodePhase.objects.of_session(session.pk)
    for node_id, category in rows.values_list("node_id", "category"):
        found[node_id].add(category)
    names = Node.objects.filter(id__in=rows.values("node_id")).values_list("name", "id")
    return {name: overall(found[node_id]) for name, node_id in names}


def overall(categories: set[str]) -> str:
    """Failed before in progress before excluded; between two phases it is in progress."""
    for category in (Category.FAILED, Category.IN_PROGRESS, Category.EXCLUDED):
        if category in categories:
            return category
    if categories == {Category.SUCCEEDED}:
        return Category.SUCCEEDED
    return Category.IN_PROGRESS if Category.SUCCEEDED in categories else Category.NOT_STARTED
