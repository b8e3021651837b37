"""Pages of tasks and their runs."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.html import format_html
from django.views.decorators.http import require_http_methods, require_safe

from accounts_app.asking import Question
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from events_app.models import InvalidTransition
from tasks_app import selectors, services
from tasks_app.models import Run, RunLog, Task
from tasks_app.states import Health, Operation, RunStatus

PER_PAGE = 50
LINES_AT_ONCE = 500
LINES_SHOWN = 2000  # of a run's end, on its page


@require_safe
@page_needs(Verb.READ)
def task_list(request: PageRequest) -> HttpResponse:
    """`/tasks/`: health at a glance; filters in the URL."""
    tasks = selectors.tasks_of(request.user)
    words, health = request.GET.get("q", "").strip(), request.GET.get("health", "")
    if words:
        tasks = tasks.filter(name__icontains=words)
    if health in Health.values:
        tasks = tasks.filter(health=health)
    page = Paginator(tasks.select_related("owner"), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": selectors.task_rows(list(page)),
        "q": words,
        "health": health,
        "healths": Health.choices,
        "filtered": bool(words or health),
    }
    template = "tasks_app/_task_table.html" if request.htmx else "tasks_app/task_list.html"
    return render(request, template, context)


def _task(request: PageRequest, uuid: uuids.UUID) -> Task:
    return get_object_or_404(
        Task.objects.visible_to(request.user).select_related("owner", "domain"), uuid=uuid
    )


def _run(request: PageRequest, uuid: uuids.UUID, number: int) -> Run:
    return get_object_or_404(Run.objects.select_related("task"), task=_task(request, uuid), number=number)


@require_safe
@page_needs(Verb.READ)
def task_detail(request: PageRequest, uuid: uuids.UUID) -> HttpResponse:
    """`/tasks/UUID/`: when it runs, what its newest runs did."""
    task = _task(request, uuid)
    runs = task.runs.defer("document", "change", "changes", "diagnostics", "plan_text").order_by("-number")
    page = Paginator(runs, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "task": task,
        "row": selectors.task_rows([task])[0],
        "page": page,
        "runs": [selectors.RunRow(run) for run in page],
        "triggers": list(task.triggers.defer("value")),
        "document": task.document,
    }
    template = "tasks_app/_task_detail.html" if request.htmx else "tasks_app/task_detail.html"
    return render(request, template, context)


@require_safe
@page_needs(Verb.READ)
def run_detail(request: PageRequest, uuid: uuids.UUID, number: int) -> HttpResponse:
    """`/tasks/UUID/runs/N/`: its plan, its output, what may be decided."""
    run = _run(request, uuid, number)
    after = max(0, run.lines - LINES_SHOWN)
    context = {
        "task": run.task,
        "run": run,
        "row": selectors.RunRow(run),
        "plan": selectors.plan_rows(run),
        **_lines(run, after),
        "cut": after,
    }
    template = "tasks_app/_run_head.html" if request.htmx else "tasks_app/run_detail.html"
    return render(request, template, context)


@require_safe
@page_needs(Verb.READ)
def run_log(request: PageRequest, uuid: uuids.UUID, number: int) -> HttpResponse:
    """Lines of a run's output after `?after=`, and where to go on while it runs."""
    after = request.GET.get("after", "0")
    if not after.isdecimal() or len(after) > 9:
        raise Http404
    run = _run(request, uuid, number)
    return render(
        request, "tasks_app/_log_lines.html", {"task": run.task, "run": run, **_lines(run, int(after))}
    )


def _lines(run: Run, after: int) -> dict[str, Any]:
    most = LINES_SHOWN if after == max(0, run.lines - LINES_SHOWN) else LINES_AT_ONCE
    lines = list(RunLog.objects.filter(run=run, number__gt=after).order_by("number")[:most])
    return {
        "lines": lines,
        "last": lines[-1].number if lines else after,
        "goes_on": run.is_open or len(lines) == most,
    }


# -- what can be done ----------------------------------------------------------------------------------

Act = Callable[[], Any]


def _do(request: PageRequest, act: Act, done: str, back: str) -> HttpResponse:
    """Run a use case and answer with a toast; what can't be done changes nothing."""
    try:
        act()
    except (InvalidTransition, services.TaskActive) as error:
        messages.error(request, f"Nothing was done: {error}")
    else:
        messages.success(request, done)
    return redirect(back)


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def task_run(request: PageRequest, uuid: uuids.UUID, operation: str) -> HttpResponse:
    """Confirm, then queue a run: apply, inspect or drift."""
    task = _task(request, uuid)
    if operation not in selectors.OPERATION_WORDS:
        raise Http404
    back = f"/tasks/{task.uuid}/"
    lines = [f"It will {selectors.OPERATION_WORDS[operation]}, with module {task.option('module')}."]
    if operation == Operation.APPLY:
        at_once = task.option("auto_apply", True)
        lines.append(
            "The plan is applied at once, without a question." if at_once else "The plan waits for approval."
        )
    question = Question(f"Run {task.name} now?", lines, "Run now", back, about=(operation, task.revision))
    answer = question.answer(request)
    if answer is not None:
        return answer
    try:
        run = services.request_run(task=task, actor=request.user, operation=operation)
    except InvalidTransition as error:
        messages.error(request, f"Nothing was done: {error}")
        return redirect(back)
    link = f"/tasks/{task.uuid}/runs/{run.number}/"
    messages.success(
        request, format_html('Run <a href="{}">{}</a> of {} is queued.', link, run.number, task.name)
    )
    return redirect(link)


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def task_enable(request: PageRequest, uuid: uuids.UUID, word: str) -> HttpResponse:
    """Confirm, then enable or disable."""
    task = _task(request, uuid)
    enables = word == "enable"
    back = f"/tasks/{task.uuid}/"
    says = (
        "It is initialised and validated first; it runs when its condition says so."
        if enables
        else "It keeps everything that it made, and does not run any more until it is enabled."
    )
    question = Question(f"{word.capitalize()} {task.name}?", [says], word.capitalize(), back)
    answer = question.answer(request)
    if answer is not None:
        return answer
    done = f"{task.name} is being enabled." if enables else f"{task.name} is disabled."
    return _do(
        request, lambda: services.update_enabled(task=task, enabled=enables, actor=request.user), done, back
    )


DECISIONS: dict[str, tuple[Any, str, str]] = {
    "approve": (services.approve_run, "Apply this plan", "is approved; exactly the saved plan is applied."),
    "discard": (services.discard_run, "Discard the plan", "is discarded; nothing was changed."),
    "cancel": (services.cancel_run, "Cancel the run", "is being cancelled."),
}


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def run_decide(request: PageRequest, uuid: uuids.UUID, number: int, decision: str) -> HttpResponse:
    """Confirm, then approve, discard or cancel a run."""
    run = _run(request, uuid, number)
    if decision not in DECISIONS:
        raise Http404
    service, verb, done = DECISIONS[decision]
    back = f"/tasks/{run.task.uuid}/runs/{run.number}/"
    question = Question(
        title=f"{verb}: run {run.number} of {run.task.name}?",
        lines=_consequences(run, decision),
        verb=verb,
        back=back,
        danger=decision == "cancel" or (decision == "approve" and run.counts.get("remove", 0) > 0),
        # A run goes on by itself, and cancelling it means it wherever it is.
        moving=decision == "cancel",
    )
    answer = question.answer(request)
    if answer is not None:
        return answer
    return _do(request, lambda: service(run=run, actor=request.user), f"Run {run.number} {done}", back)


def _consequences(run: Run, decision: str) -> list[str]:
    if decision == "approve":
        add, change, remove = (run.counts.get(key, 0) for key in ("add", "change", "remove"))
        lines = [f"It adds {add}, changes {change} and removes {remove} resources, as the plan says."]
        gone = [row.address for row in selectors.plan_rows(run) if row.action in {"delete", "replace"}]
        return [*lines, f"Removed or replaced: {', '.join(gone[:20])}"] if gone else lines
    if decision == "discard":
        return ["Nothing is applied. The next change or run plans anew."]
    if run.status == RunStatus.APPLYING:
        return ["The program is asked to stop (SIGINT); what it has changed by then stays changed."]
    return ["It is stopped before anything is changed."]
