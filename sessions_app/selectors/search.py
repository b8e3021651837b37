"""The one search box: nodes by range, sessions by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from sessions_app.models import Node
from sessions_app.models.nodes import natural
from sessions_app.nodeset import NodeSetError, expand, fold
from sessions_app.selectors.lists import SessionRow, session_rows, sessions_with_counts

MOST_SESSIONS = 20


@dataclass
class FoundNodes:
    """Nodes that a typed range means."""

    names: list[str]

    @property
    def folded(self) -> str:
        """On one line."""
        return fold(self.names, most=12)


def group_names(name: str) -> set[str] | None:
    """Names of the nodes in a group, for `@name`."""
    return set(Node.objects.filter(groups__name=name).values_list("name", flat=True))


def find_nodes(user: Any, text: str) -> FoundNodes:
    """Nodes by range, place or wildcard; else those whose name, MAC or number holds the text."""
    nodes = Node.objects.visible_to(user)
    try:
        selection = expand(text, list(nodes.values_list("name", flat=True)), group_names)
    except NodeSetError:
        return FoundNodes([])
    if selection.names:
        return FoundNodes(sorted(selection.names, key=natural))
    wanted = Q(name__icontains=text) | Q(mac__icontains=text) | Q(bmc__name__iexact=text)
    if text.isdecimal() and len(text) < 18:
        wanted |= Q(nid=int(text))
    return FoundNodes(sorted(nodes.filter(wanted).values_list("name", flat=True)[:1000], key=natural))


def find_sessions(user: Any, text: str) -> list[SessionRow]:
    """The newest whose name or template holds the text, or whose id begins with it."""
    wanted = Q(name__icontains=text) | Q(template_name__icontains=text) | Q(uuid__istartswith=text)
    found = sessions_with_counts(user).filter(wanted).order_by("-created_at")[:MOST_SESSIONS]
    return session_rows(found)
