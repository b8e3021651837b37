"""The first page: what needs attention over all areas, a card for each, what happened last."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts_app.permissions import page_needs
from accounts_app.states import Verb
from config import activity
from sessions_app import selectors as sessions


def attention_counts(user: Any) -> dict[str, int]:
    """By page: how many things there need a person; for the rail."""
    return {
        "sessions": sessions.sessions_needing_attention(user).count(),
        "nodes": sessions.failed_nodes(user).count(),
    }


@page_needs(Verb.READ)
def overview(request: HttpRequest) -> HttpResponse:
    """`/` for people."""
    user: Any = request.user
    recent = sessions.sessions_with_counts(user).order_by("-created_at")[:6]
    context = {
        "attention": sessions.attention(user),
        "session_counts": sessions.counts_by_status(user),
        "node_counts": sessions.node_counts(user),
        "recent_events": activity.recent(user, most=14),
        "recent_sessions": [sessions.session_row(session) for session in recent],
    }
    template = "_overview.html" if request.htmx else "overview.html"
    return render(request, template, context)
