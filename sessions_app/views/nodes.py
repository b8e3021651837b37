"""Pages of nodes: the inventory and one node with its history."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from sessions_app import selectors
from sessions_app.forms import NODE_STATES, groups_of
from sessions_app.looks import POWER_LOOKS, node_look
from sessions_app.models import Node, NodePhase
from sessions_app.states import REACH_LOOKS, SWITCHING, ByHand, Reach
from sessions_app.views.picking import FIELDS, pick, pick_words

PER_PAGE = 50
HISTORY = 300  # rows of one node's history on its page


@require_safe
@page_needs(Verb.READ)
def node_list(request: PageRequest) -> HttpResponse:
    """`/nodes/`: range, state, role, group and session stand in the URL."""
    picked = pick(request.user, request.GET)
    page = Paginator(picked.nodes, PER_PAGE).get_page(request.GET.get("page"))
    shown = Node.objects.select_related("bmc", "session", "actual", "desired").prefetch_related("groups")
    # A session's list of names is as long as the session is large, and here it would come with each node.
    shown = shown.defer("session__components", "session__limit")
    by_id = shown.in_bulk([node.id for node in page])
    rows = [(node, *node_look(node), POWER_LOOKS[node.power_state]) for node in by_id.values()]
    order = {node.id: place for place, node in enumerate(page)}
    rows.sort(key=lambda row: order[row[0].id])
    query = urlencode({name: request.GET[name] for name in FIELDS if request.GET.get(name)})
    context = {
        "picked": picked,
        "page": page,
        "rows": rows,
        "query": query,
        "filtered": bool(query),
        "words": pick_words(query),
        "reaches": Reach.choices,
        "hand_actions": ByHand.choices,
        "at_work": selectors.at_work_by_hand([node.id for node in page]),
        "states": {state: word for state, (word, _) in NODE_STATES.items()},
        "groups": groups_of(),
        "roles": list(
            Node.objects.visible_to(request.user).order_by("role").values_list("role", flat=True).distinct()
        ),
    }
    template = "sessions_app/_node_table.html" if request.htmx else "sessions_app/node_list.html"
    return render(request, template, context)


@require_safe
@page_needs(Verb.READ)
def node_detail(request: PageRequest, name: str) -> HttpResponse:
    """`/nodes/NAME/`: now, desired, actual; its history over all sessions."""
    nodes = Node.objects.visible_to(request.user)
    node = get_object_or_404(
        nodes.select_related(
            "bmc", "session", "domain", "desired", "actual", "staged", "staged_session"
        ).defer("session__components", "staged_session__components"),
        name=name.lower(),
    )
    look, word = node_look(node)
    context = {
        "node": node,
        "look": look,
        "word": word,
        "power_look": POWER_LOOKS[node.power_state],
        "reach_look": REACH_LOOKS[node.bmc.reach] if node.bmc else None,
        "locate_look": ("◉", "blue"),
        "hand": selectors.newest_by_hand(node),
        "hand_actions": [choice for choice in ByHand.choices if choice[0] in SWITCHING],
        "groups": list(node.groups.order_by("name")),
        "compared": _compared(node),
        "history": _history(node),
    }
    template = "sessions_app/_node_detail.html" if request.htmx else "sessions_app/node_detail.html"
    return render(request, template, context)


def _compared(node: Node) -> list[tuple[str, str, str, str, bool]]:
    """Rows of (what, desired, actual, staged, whether the actual one differs from the desired)."""

    def artifact(row: Any, name: str) -> str:
        return getattr(row, name) if row else ""

    rows = []
    for word, name in (("Kernel", "kernel"), ("Initrd", "initrd"), ("Parameters", "kernel_parameters")):
        desired, actual = artifact(node.desired, name), artifact(node.actual, name)
        rows.append((word, desired, actual, artifact(node.staged, name), bool(desired and desired != actual)))
    wanted, has = node.desired_configuration, node.actual_configuration
    rows.append(("Configuration", wanted, has, node.staged_configuration, bool(wanted and wanted != has)))
    return rows


def _history(node: Node) -> list[tuple[Any, list[selectors.PhaseStep]]]:
    """(session, its phases on this node), newest session first."""
    rows = (
        NodePhase.objects.filter(node=node)
        .select_related("session", "phase")
        .defer("session__components", "session__limit")
        .order_by("-session__created_at", "phase__position")[:HISTORY]
    )
    found: dict[int, tuple[Any, list[selectors.PhaseStep]]] = {}
    for row in rows:
        found.setdefault(row.session_id, (row.session, []))[1].append(selectors.phase_step(row))
    return list(found.values())


class _Line:
    """A file for csv that hands each line on."""

    def write(self, text: str) -> str:
        return text


COLUMNS = ["name", "nid", "mac", "role", "subrole", "arch", "enabled", "locked", "domain", "groups",
           "bmc", "bmc_kind", "bmc_address", "bmc_domain"]  # fmt: skip


@require_safe
@page_needs(Verb.READ)
def node_export(request: PageRequest) -> Any:
    """The filtered nodes as CSV; no secret of a BMC is in it."""
    picked = pick(request.user, request.GET)
    response = StreamingHttpResponse(_lines([node.id for node in picked.nodes]), content_type="text/csv")
    response["Content-Disposition"] = 'attachment; filename="nodes.csv"'
    return response


def _lines(ids: list[int]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for start in range(0, len(ids), 1000):
        part = ids[start : start + 1000]
        found = Node.objects.select_related("bmc__domain", "domain").prefetch_related("groups").in_bulk(part)
        for node_id in part:
            if node_id in found:
                yield writer.writerow(_cells(found[node_id]))


def _cells(node: Node) -> list[Any]:
    cells = [
        node.name,
        "" if node.nid is None else node.nid,
        node.mac or "",
        node.role,
        node.subrole,
        node.arch,
        "yes" if node.hardware_enabled else "no",
        "yes" if node.locked else "no",
        node.domain.name if node.domain else "",
        " ".join(sorted(group.name for group in node.groups.all())),
        node.bmc.name if node.bmc else "",
        node.bmc.kind if node.bmc else "",
        node.bmc.address if node.bmc else "",
        node.bmc.domain.name if node.bmc and node.bmc.domain else "",
    ]
    # A spreadsheet must not take a text for a formula.
    return [f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" else cell for cell in cells]
