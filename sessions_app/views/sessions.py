"""Pages of sessions: the list, one session, its map, what can be done with it."""

from __future__ import annotations

import json
import uuid as uuids
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.html import format_html
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_safe

from accounts_app.asking import digest_of
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from events_app.models import InvalidTransition, LifecycleEvent
from sessions_app import selectors, services
from sessions_app.confirming import Confirmation
from sessions_app.forms import SessionFilter
from sessions_app.models import BootSession
from sessions_app.states import CATEGORY_LOOKS, ByHand, Category, Operation, SessionStatus

PER_PAGE = 50
TABS = {"nodes": "Nodes", "errors": "Errors", "timeline": "Timeline", "log": "Log", "template": "Template"}
NODES_PER_PAGE = 50


@require_safe
@page_needs(Verb.READ)
def session_list(request: PageRequest) -> HttpResponse:
    """`/sessions/`: filters, order and page stand in the URL; `?by=hand` shows what people did by hand."""
    by_hand = request.GET.get("by") == "hand"
    sessions = selectors.sessions_with_counts(request.user, by_hand=by_hand).order_by("-created_at", "-id")
    chosen = SessionFilter(request.GET, queryset=sessions)
    found = chosen.qs if chosen.is_valid() else sessions.none()
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "filter": chosen,
        "filtered": any(request.GET.get(name) for name in chosen.filters if name != "order"),
        "by_hand": by_hand,
        "operations": ByHand.choices if by_hand else Operation.choices,
        "order": request.GET.get("order", ""),
        "page": page,
        "rows": selectors.session_rows(page),
        "wrong": [] if chosen.is_valid() else list(chosen.form.errors.values()),
    }
    template = "sessions_app/_session_table.html" if request.htmx else "sessions_app/session_list.html"
    return render(request, template, context)


def _session(request: PageRequest, uuid: uuids.UUID) -> BootSession:
    sessions = BootSession.objects.visible_to(request.user)
    sessions = sessions.select_related("owner", "domain", "template").defer("components")
    return get_object_or_404(sessions, uuid=uuid)


@require_safe
@page_needs(Verb.READ)
@gzip_page
def session_detail(request: PageRequest, uuid: uuids.UUID) -> HttpResponse:
    """`/sessions/UUID/`: what is going on, the map, and one of the tabs."""
    session = _session(request, uuid)
    tab = request.GET.get("tab", "nodes")
    tab = tab if tab in TABS else "nodes"
    node = request.GET.get("node", "")
    context = {
        "session": session,
        "picture": selectors.picture(session),
        "tabs": TABS,
        "tab": tab,
        "selected": selectors.node_in_session(session, node) if node else None,
        "selected_name": node,
        "phases": list(dict.fromkeys(session.boot_sets.values_list("phases__name", flat=True))),
        "category_looks": _looks(),
        "looks_json": json.dumps(_looks()),
        "tab_template": f"sessions_app/_tab_{tab}.html",
        "cabinets": selectors.cabinets_of(session) if "words" in request.GET else None,
        **_tab(request, session, tab),
    }
    return render(request, "sessions_app/session_detail.html", context)


@require_safe
@page_needs(Verb.READ)
def session_live(request: PageRequest, uuid: uuids.UUID) -> HttpResponse:
    """What changes on the session's page while it runs: state, actions, bars, faults."""
    session = _session(request, uuid)
    context = {
        "session": session,
        "picture": selectors.picture(session),
    }
    return render(request, "sessions_app/_session_live.html", context)


@require_safe
@page_needs(Verb.READ)
def session_tab(request: PageRequest, uuid: uuids.UUID, tab: str) -> HttpResponse:
    """One tab's content, fetched again while the session runs."""
    if tab not in TABS:
        raise Http404
    session = _session(request, uuid)
    context = {"session": session, "tab": tab, **_tab(request, session, tab)}
    return render(request, f"sessions_app/_tab_{tab}.html", context)


def _looks() -> dict[str, tuple[str, str, str]]:
    """Glyph, tone and word by category, for the map's script and its legend."""
    return {
        category: (*CATEGORY_LOOKS[category], Category(category).label) for category in selectors.BAR_ORDER
    }


def _tab(request: PageRequest, session: BootSession, tab: str) -> dict[str, Any]:
    """Context of a tab."""
    if tab == "nodes":
        return _nodes_tab(request, session)
    if tab == "timeline":
        return {"timeline": selectors.timeline(session)}
    if tab == "log":
        events = LifecycleEvent.objects.filter(area__in=("session", "node"), subject_id=str(session.uuid))
        return {"log": selectors.log_lines(session, list(events.order_by("-number")[:300]))}
    if tab == "template":
        return {"boot_sets": list(session.boot_sets.select_related("artifacts"))}
    return {"faults": selectors.faults_of(session)}


def _nodes_tab(request: PageRequest, session: BootSession) -> dict[str, Any]:
    """The session's nodes with their phases, filtered by category and name."""
    category = request.GET.get("category", "")
    category = category if category in Category.values else ""
    words = request.GET.get("find", "").strip()
    ids = selectors.node_ids(session, category, words)
    page = Paginator(ids, NODES_PER_PAGE).get_page(request.GET.get("page"))
    return {
        "page": page,
        "nodes": selectors.nodes_with_steps(session, list(page)),
        "categories": Category.choices,
        "category": category,
        "find": words,
    }


@require_safe
@page_needs(Verb.READ)
@gzip_page
def session_map(request: PageRequest, uuid: uuids.UUID) -> JsonResponse:
    """The node map's document, see selectors.map_document."""
    return JsonResponse(
        selectors.map_document(_session(request, uuid)), json_dumps_params={"separators": (",", ":")}
    )


@require_safe
@page_needs(Verb.READ)
def session_node(request: PageRequest, uuid: uuids.UUID, name: str) -> HttpResponse:
    """One node in this session: beside the map, or as a page of its own."""
    session = _session(request, uuid)
    found = selectors.node_in_session(session, name)
    if found is None:
        raise Http404(f"Session {session.name} has no node {name}.")
    if not request.htmx:
        return redirect(f"/sessions/{session.uuid}/?node={name}")
    context = {
        "session": session,
        "selected": found,
        "selected_name": name,
    }
    return render(request, "sessions_app/_session_node.html", context)


# -- what can be done with it --------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def session_cancel(request: PageRequest, uuid: uuids.UUID) -> HttpResponse:
    """Confirm, then cancel: nodes that are not over are left out."""
    session = _session(request, uuid)
    names = selectors.open_names(session)
    confirmation = Confirmation(
        title=f"Cancel {session.name}?",
        verb="Cancel the session",
        count=session.open_nodes if session.status == SessionStatus.RUNNING else 0,
        names=names,
        will=[
            "Nothing more is done to these nodes; what a BMC has begun may still happen within seconds.",
            "Nodes that are over stay as they are. Nothing is switched back.",
        ],
        back=f"/sessions/{session.uuid}/",
        # The set shrinks by itself while the session runs: cancelling fewer is not the wrong nodes.
        digest=str(session.uuid),
        danger=True,
        typed_count=session.total_nodes,
    )
    if session.status == SessionStatus.COMPLETE:
        confirmation.refused = "This session is over; there is nothing to cancel."
    answer = confirmation.answer(request)
    if answer is not None:
        return answer
    try:
        services.cancel_session(session=session, actor=request.user)
    except InvalidTransition:
        messages.warning(request, f"{session.name} was over already; nothing was cancelled.")
    else:
        messages.success(request, f"{session.name} is cancelled.")
    return redirect(confirmation.back)


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def session_retry(request: PageRequest, uuid: uuids.UUID) -> HttpResponse:
    """Confirm, then try the failed nodes again from the phase in which they failed."""
    session = _session(request, uuid)
    names, taken = selectors.retryable(session)
    left_out = {"taken by a newer session": taken} if taken else {}
    confirmation = Confirmation(
        title=f"Retry the failed nodes of {session.name}?",
        verb=f"Retry {len(names):,} node{'' if len(names) == 1 else 's'}",
        count=len(names),
        names=names,
        left_out=left_out,
        will=["Each begins again in the phase in which it failed. No other node is touched."],
        back=f"/sessions/{session.uuid}/",
        digest=digest_of("retry", session.uuid, names),
    )
    if not names:
        confirmation.refused = "No failed node of this session can be tried again."
    answer = confirmation.answer(request)
    if answer is not None:
        return answer
    try:
        count = services.retry_failed(session=session, actor=request.user, nodes=names)
    except services.Refused as error:
        messages.error(request, str(error))
    else:
        nodes = "node is" if count == 1 else "nodes are"
        messages.success(request, f"{count:,} {nodes} tried again in {session.name}.")
    return redirect(confirmation.back)


def started_message(session: BootSession, count: int) -> str:
    """The toast after a start, with a link."""
    return format_html(
        'Session <a href="/sessions/{}/">{}</a> was accepted: {} {} {}.',
        session.uuid,
        session.name,
        Operation(session.operation).label,
        f"{count:,}",
        "node" if count == 1 else "nodes",
    )
