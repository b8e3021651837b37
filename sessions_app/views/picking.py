"""Nodes by a filter that stands in a URL: the same for the list, its bulk actions and its export."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.http import QueryDict

from sessions_app.forms import NODE_STATES, NodeFilter
from sessions_app.models import Node
from sessions_app.models.nodes import natural
from sessions_app.nodeset import NodeSetError, Selection, expand
from sessions_app.selectors.search import group_names
from sessions_app.states import Reach

FIELDS = ("nodes", "state", "role", "group", "session", "bmc")


class Named(NamedTuple):
    """A node, as far as lists sort and address it."""

    id: int
    name: str


@dataclass
class Picked:
    """What a filter means now, in natural order; what it names and nothing bears; what is wrong with it."""

    nodes: list[Named] = field(default_factory=list)
    unknown: tuple[str, ...] = ()
    wrong: str = ""


def visible_nodes(user: Any, text: str) -> Selection:
    """What a typed range means to this user. Raises NodeSetError."""
    names = Node.objects.visible_to(user).values_list("name", flat=True)
    return expand(text, list(names), group_names)


def ids_named(user: Any, text: str) -> list[int]:
    """Ids of the nodes that a typed range means to this user; none for nothing. Raises NodeSetError."""
    return ids_of(user, visible_nodes(user, text).names) if text.strip() else []


def ids_of(user: Any, names: Collection[str]) -> list[int]:
    """Ids of the nodes of these names that the user may see."""
    rows = dict(Node.objects.visible_to(user).values_list("name", "id"))
    return [rows[name] for name in names if name in rows]


def pick(user: Any, query: QueryDict) -> Picked:
    """The nodes that the filter `query` selects."""
    chosen = NodeFilter(query, queryset=Node.objects.visible_to(user))
    if not chosen.is_valid():
        return Picked(wrong=" ".join(text for texts in chosen.form.errors.values() for text in texts))
    found = chosen.qs.order_by().values_list("name", "id")
    rows = dict(found.distinct() if query.get("group") else found)
    picked = Picked()
    text = query.get("nodes", "").strip()
    if text:
        try:
            selection = expand(text, rows, group_names)
        except NodeSetError as error:
            return Picked(wrong=str(error))
        picked.unknown = selection.unknown
        rows = {name: rows[name] for name in selection.names}
    picked.nodes = [Named(rows[name], name) for name in sorted(rows, key=natural)]
    return picked


def pick_words(query: str) -> str:
    """A filter in words, for the bar that says what an action will hit."""
    asked = QueryDict(query)
    said = []
    if asked.get("nodes"):
        said.append(asked["nodes"])
    if asked.get("state") in NODE_STATES:
        said.append(NODE_STATES[asked["state"]][0])
    if asked.get("bmc") in Reach.values:
        said.append(f"BMC {Reach(asked['bmc']).label}")
    said += [f"{name} {asked[name]}" for name in ("role", "group", "session") if asked.get(name)]
    return " · ".join(said) or "all nodes"
