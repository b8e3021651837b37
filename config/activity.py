"""What happened: the event feed, background tasks, who did what."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import render

from accounts_app.models import AuditEntry, User
from accounts_app.permissions import PageRequest, may, page_needs
from accounts_app.states import Verb
from events_app.models import BackgroundTask, LifecycleEvent
from events_app.states import BackgroundTaskStatus
from workflows_app.states import COLOUR_LOOKS

AREAS = {
    "session": "Sessions",
    "node": "Nodes",
    "task": "Tasks",
    "workflow": "Workflows",
    "background_task": "Background tasks",
    "account": "Accounts",
}
# Several a second while something runs: for maps and logs that follow, not for people who read.
NOISE = ("node_phases", "task_run_output")
PERSONAL = ("background_task", "account")
PER_PAGE = 50

# Name of an event: glyph, tone, what it says of its subject.
PHRASES: dict[str, tuple[str, str, str]] = {
    "session_enqueued": ("○", "slate", "was requested"),
    "session_preparing": ("◐", "blue", "has its nodes"),
    "session_pulling": ("◐", "blue", "checks its boot artifacts"),
    "session_creating": ("◐", "blue", "began to switch nodes"),
    "session_started": ("●", "green", "has booted what it could"),
    "session_terminated": ("●", "green", "ended"),
    "session_deleted": ("–", "grey", "was deleted"),
    "components_changed": ("○", "slate", "changed what nodes should run"),
    "node_registered": ("○", "slate", "was added to the inventory"),
    "bmc_registered": ("○", "slate", "was registered"),
    "bmc_credentials_rotated": ("○", "slate", "has new credentials"),
    "bmc_unreachable": ("✕", "red", "can't be reached: the BMC does not answer"),
    "bmc_reachable": ("●", "green", "can be reached again"),
    "node_power_changed": ("○", "slate", "changed power"),
    "power_enqueued": ("○", "slate", "was asked for by hand"),
    "power_preparing": ("◐", "blue", "has its nodes"),
    "power_creating": ("◐", "blue", "began to switch nodes"),
    "power_terminated": ("●", "green", "is over"),
    "key_issued": ("○", "slate", "was issued"),
    "key_revoked": ("–", "grey", "was revoked"),
    "task_created": ("○", "slate", "was created"),
    "task_updated": ("○", "slate", "was changed"),
    "task_deleted": ("–", "grey", "was deleted"),
    "task_enabled": ("○", "slate", "was enabled"),
    "task_disabled": ("–", "grey", "was disabled"),
    "task_run_queued": ("○", "slate", "has a run queued"),
    "task_run_planning": ("◐", "blue", "plans"),
    "task_run_unconfirmed": ("▲", "amber", "waits for approval"),
    "task_run_applying": ("◐", "blue", "applies its plan"),
    "task_run_succeeded": ("●", "green", "ran well"),
    "task_run_failed": ("✕", "red", "failed"),
    "task_run_cancelled": ("–", "grey", "had a run cancelled"),
    "task_run_discarded": ("–", "grey", "had a plan discarded"),
    "task_run_cancelling": ("–", "grey", "is asked to stop"),
    "task_health": ("▲", "amber", "changed its health"),
    "task_deleting": ("–", "grey", "is being deleted"),
    "task_imported": ("○", "slate", "was imported"),
    "task_tick_skipped": ("○", "slate", "let a time of its schedule pass"),
    "task_state_unlocked": ("○", "slate", "had its state unlocked"),
    "task_watch_failed": ("▲", "amber", "can't watch what it waits for"),
    "task_watch_restored": ("●", "green", "watches again"),
    "workflow_created": ("○", "slate", "was described"),
    "workflow_updated": ("○", "slate", "was changed"),
    "workflow_rollout": ("◐", "blue", "is being rolled out"),
    "workflow_publishing": ("◐", "blue", "is being published"),
    "workflow_published": ("●", "green", "is published"),
    "workflow_failed": ("✕", "red", "could not be published"),
    "workflow_unpublishing": ("◐", "blue", "is being unpublished"),
    "workflow_unpublished": ("–", "grey", "is unpublished"),
    "workflow_stuck": ("✕", "red", "could not be unpublished"),
    "workflow_withdrawn": ("–", "grey", "is to be unpublished"),
    "workflow_deleted": ("–", "grey", "was deleted"),
    "workflow_colour": ("○", "slate", "is now"),
    "service_changed": ("○", "slate", "has news of a service"),
    "service_removed": ("–", "grey", "has a service less"),
    "run_queued": ("○", "slate", "queued an analysis"),
    "run_succeeded": ("●", "green", "took an analysis"),
    "run_failed": ("✕", "red", "refused an analysis"),
    "run_timed_out": ("✕", "red", "could not take an analysis in time"),
    "run_cancelled": ("–", "grey", "had an analysis cancelled"),
    "bgtask_updated": ("◐", "blue", "goes on"),
    "bgtask_done": ("●", "green", "is done"),
    "bgtask_failed": ("✕", "red", "failed"),
    "bgtask_cancelled": ("–", "grey", "was cancelled"),
}
LINKS = {"session": "/sessions/{id}/", "task": "/tasks/{id}/", "workflow": "/workflows/{id}/"}
TASK_LOOKS = {
    BackgroundTaskStatus.STARTED: ("◐", "blue"),
    BackgroundTaskStatus.DONE: ("●", "green"),
    BackgroundTaskStatus.FAILED: ("✕", "red"),
    BackgroundTaskStatus.CANCELLED: ("–", "grey"),
}


@dataclass
class Entry:
    """One event as the feed shows it."""

    event: LifecycleEvent
    look: tuple[str, str]
    phrase: str
    detail: str

    @property
    def url(self) -> str:
        """The page of what it is about; empty where there is none."""
        area = "session" if self.event.name.startswith("power_") else self.event.area
        pattern = LINKS.get(area, "")
        if not self.event.subject_id:
            return ""
        return pattern.format(id=self.event.subject_id)


def entry(event: LifecycleEvent) -> Entry:
    """An event in words."""
    glyph, tone, phrase = PHRASES.get(event.name, ("○", "slate", event.name.replace("_", " ")))
    data = event.data if isinstance(event.data, dict) else {}
    if data.get("result") == "FAILURE" or event.name.endswith(("_failed", "_error", "_errored")):
        glyph, tone = "✕", "red"
    service = data.get("service")
    if event.name == "workflow_colour":
        colour = str(data.get("actualStatus") or "")
        phrase += f" {colour}" if colour else " without a colour"
        glyph, tone = COLOUR_LOOKS.get(colour, (glyph, tone))
    elif event.name == "service_changed" and isinstance(service, dict) and "desired" in service:
        phrase = f"has {service.get('actual')}/{service['desired']} of {service.get('name')}"
        glyph, tone = COLOUR_LOOKS.get(str(service.get("status")), (glyph, tone))
    detail = str(data.get("reason") or data.get("message") or data.get("by") or "")
    return Entry(event, (glyph, tone), phrase, detail)


def events_for(user: User) -> QuerySet[LifecycleEvent]:
    """What `user` may read of, newest first: his domain's; personal areas his own, or all as its admin."""
    events = LifecycleEvent.objects.exclude(name__in=NOISE).order_by("-number")
    if user.is_superadmin:
        return events
    events = events.filter(domain=user.domain.name if user.domain else "")
    if not may(user, Verb.ADMIN):
        events = events.filter(~Q(area__in=PERSONAL) | Q(user_id=user.pk))
    return events


def recent(user: User, most: int = 20) -> list[Entry]:
    """The newest events, for the overview."""
    return [entry(event) for event in events_for(user).exclude(name="bgtask_updated")[:most]]


@page_needs(Verb.READ)
def activity(request: PageRequest) -> HttpResponse:
    """`/activity/`: newest first, older pages by number, filtered by area, subject and name."""
    events = events_for(request.user)
    area = request.GET.get("area", "")
    if area in AREAS:
        events = events.filter(area=area)
    words = request.GET.get("q", "").strip()
    if words:
        events = events.filter(Q(subject_name__icontains=words) | Q(name__icontains=words))
    before = request.GET.get("before", "")
    if before.isdecimal():
        events = events.filter(number__lt=int(before[:18]))
    found = list(events[: PER_PAGE + 1])
    context = {
        "tab": "events",
        "areas": AREAS,
        "area": area,
        "q": words,
        "before": before,
        "entries": [entry(event) for event in found[:PER_PAGE]],
        "older": found[PER_PAGE - 1].number if len(found) > PER_PAGE else None,
    }
    template = "events_app/_feed_list.html" if request.htmx else "events_app/activity.html"
    return render(request, template, context)


@page_needs(Verb.READ)
def background_tasks(request: PageRequest) -> HttpResponse:
    """`/activity/background/`: long actions with their progress; everybody's for admins of the domain."""
    user = request.user
    tasks = BackgroundTask.objects.select_related("owner").order_by("-created_at")
    if not user.is_superadmin:
        mine = Q(owner=user)
        if may(user, Verb.ADMIN):
            mine |= Q(domain=user.domain.name if user.domain else "")
        tasks = tasks.filter(mine)
    page = Paginator(tasks, PER_PAGE).get_page(request.GET.get("page"))
    rows = [(task, TASK_LOOKS[BackgroundTaskStatus(task.status)]) for task in page]
    context = {"tab": "background", "page": page, "rows": rows}
    template = "events_app/_background.html" if request.htmx else "events_app/activity.html"
    return render(request, template, context)


@page_needs(Verb.ADMIN)
def audit(request: PageRequest) -> HttpResponse:
    """`/activity/audit/`: who asked for what, refused requests too; of his domain's people for its admin."""
    user = request.user
    entries = AuditEntry.objects.visible_to(user).order_by("-id")
    words = request.GET.get("q", "").strip()
    if words:
        entries = entries.filter(AuditEntry.holding(words))
    before = request.GET.get("before", "")
    if before.isdecimal():
        entries = entries.filter(id__lt=int(before[:18]))
    found = list(entries[: PER_PAGE + 1])
    context = {
        "tab": "audit",
        "q": words,
        "entries": [(row, _answer_look(row.status)) for row in found[:PER_PAGE]],
        "older": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else None,
    }
    return render(request, "events_app/activity.html", context)


def _answer_look(status: int) -> tuple[str, str]:
    """Of an HTTP answer: done, refused, broken."""
    if status < 400:
        return "●", "green"
    return ("▲", "amber") if status < 500 else ("✕", "red")
