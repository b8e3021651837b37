"""The first page: what needs attention over all areas, a card for each, what happened last."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from config import activity
from events_app.services import seen_within
from sessions_app import selectors as sessions
from sessions_app.selectors import Attention
from tasks_app import selectors as tasks
from workflows_app import selectors as workflows
from workflows_app.states import COLOUR_LOOKS

SEEN_WITHIN = 60.0  # seconds; they note themselves every 2 s, and a busy machine may be late


def attention_counts(user: Any) -> dict[str, int]:
    """By page: how many things there need a person; for the rail."""
    return {
        "sessions": sessions.sessions_needing_attention(user).count(),
        "nodes": sessions.nodes_needing_attention(user).count(),
        "tasks": tasks.needing_attention(user),
        "workflows": workflows.needing_attention(user),
    }


def attention(user: Any) -> list[Any]:
    """What needs a person, over all areas, worst first."""
    found: list[Any] = [*sessions.attention(user), *tasks.attention(user), *workflows.attention(user)]
    rank = {"red": 0, "amber": 1}
    return _missing_parts() + sorted(found, key=lambda line: rank.get(line.look[1], 2))


def _missing_parts() -> list[Attention]:
    """Parts of the service that nobody has seen at work lately."""
    missing = [name for name in ("worker", "runner", "beat") if not seen_within(name, SEEN_WITHIN)]
    if not missing:
        return []
    names = "Nothing that is asked for is done before it is back; /readyz tells more."
    what = f"No {' and no '.join(missing)} at work"
    return [Attention(("✕", "red"), what, names, "/readyz", "Status")]


def _parts(counts: dict[str, int], **tones: str) -> list[tuple[int, str]]:
    return [(counts[name], tone) for name, tone in tones.items()]


@page_needs(Verb.READ)
def overview(request: PageRequest) -> HttpResponse:
    """`/` for people."""
    user = request.user
    workflow_tones = {colour: tone for colour, (_, tone) in COLOUR_LOOKS.items()}
    recent = sessions.sessions_with_counts(user).order_by("-created_at")[:6]
    context = {
        "attention": attention(user),
        "session_counts": (of_sessions := sessions.counts_by_status(user)),
        "node_counts": (of_nodes := sessions.node_counts(user)),
        "task_counts": tasks.counts(user),
        "runs_by_hour": tasks.runs_by_hour(user),
        "workflow_counts": (of_workflows := workflows.counts(user)),
        "bars": {
            "sessions": _parts(of_sessions, succeeded="green", failed="red", running="blue", pending="slate"),
            "nodes": _parts(of_nodes, idle="green", failed="red", busy="blue", off="slate"),
            "workflows": _parts(of_workflows, **workflow_tones, unpublished="slate"),
        },
        "recent_events": activity.recent(user, most=14),
        "recent_sessions": sessions.session_rows(recent),
    }
    template = "_overview.html" if request.htmx else "overview.html"
    return render(request, template, context)
