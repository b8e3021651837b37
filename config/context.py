"""What the frame of every page shows: where one is, what needs attention, where the stream begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts_app.permissions import may
from accounts_app.states import Verb
from config.overview import attention_counts
from events_app.models import EventCounter
from events_app.stream import ChannelFormat, hearer_of, scope_of

THEMES = [["auto", "auto"], ["light", "light"], ["dark", "dark"]]
TIMES = [["utc", "UTC"], ["local", "local"]]
# (page, word, icon, path)
NAVIGATION = [
    ("overview", "Overview", "overview", "/"),
    ("sessions", "Sessions", "sessions", "/sessions/"),
    ("nodes", "Nodes", "nodes", "/nodes/"),
    ("tasks", "Tasks", "tasks", "/tasks/"),
    ("workflows", "Workflows", "workflows", "/workflows/"),
    ("activity", "Activity", "activity", "/activity/"),
]
# The dashboard's one stream; everybody hears of what he may see only.
CHANNELS = ("sessions", "nodes", "tasks", "workflows", "background-tasks")


def remember_cursor(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Middleware: the number of the newest event, read before the page's own data. The page's stream goes
    on after it, so that nothing falls between what was drawn and what is heard."""

    def middleware(request: HttpRequest) -> HttpResponse:
        page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
        if page and settings.SESSION_COOKIE_NAME in request.COOKIES and "HX-Request" not in request.headers:
            newest = EventCounter.objects.filter(pk=1).values_list("last", flat=True).first()
            request.muster_cursor = newest or 0  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context of base.html. Parts that htmx fetches have no frame: they only get what the user may do."""
    user = getattr(request, "user", None)
    signed_in = bool(user and user.is_authenticated)
    htmx = getattr(request, "htmx", None)
    if htmx and not htmx.boosted:
        return {"operates": may(user, Verb.OPERATE), "administers": may(user, Verb.ADMIN)}
    context: dict[str, Any] = {
        "version": settings.VERSION,
        "theme": _switch(request, "theme", THEMES),
        "clock": _switch(request, "time", TIMES),
    }
    if not signed_in:
        return context
    reads = may(user, Verb.READ)
    context["here"] = request.path.strip("/").split("/")[0] or "overview"
    context["navigation"] = navigation(user, context["here"], counts=reads)
    context["operates"] = may(user, Verb.OPERATE)
    context["administers"] = may(user, Verb.ADMIN)
    hearer = hearer_of(user) if reads else None
    if hearer is not None:
        context["stream"] = f"/events/stream?channels={','.join(CHANNELS)}"
        scoped = tuple(sorted(scope_of(name, hearer) for name in CHANNELS))
        context["cursor"] = ChannelFormat(scoped).id_of(getattr(request, "muster_cursor", 0))
    return context


def navigation(user: Any, here: str, *, counts: bool) -> list[dict[str, Any]]:
    """The rail's entries; `counts`: with how many things there need a person."""
    found = attention_counts(user) if counts else {}
    return [
        {"word": word, "icon": icon, "path": path, "here": page == here, "count": found.get(page, 0)}
        for page, word, icon, path in NAVIGATION
    ]


def _switch(request: HttpRequest, name: str, choices: list[list[str]]) -> dict[str, Any]:
    """A switch's present value and the one after it."""
    values = [value for value, _ in choices]
    present = request.COOKIES.get(f"muster_{name}", "")
    place = values.index(present) if present in values else 0
    following = choices[(place + 1) % len(choices)]
    return {
        "value": values[place],
        "word": choices[place][1],
        "next": following[0],
        "next_word": following[1],
        "choices": choices,
    }
