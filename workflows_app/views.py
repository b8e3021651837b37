"""Pages of workflows: all of them, one as a tree, what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts_app.asking import Question
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from events_app.models import InvalidTransition
from workflows_app import selectors, services
from workflows_app.drivers.base import RuntimeFault
from workflows_app.forms import RollbackForm, ScaleForm
from workflows_app.models import Workflow
from workflows_app.states import RUN_LOOKS

PER_PAGE = 50
RUNS_SHOWN = 20


@require_safe
@page_needs(Verb.READ)
def workflow_list(request: PageRequest) -> HttpResponse:
    """`/workflows/`: colour, counts, where they run."""
    workflows = selectors.workflows_of(request.user)
    words = request.GET.get("q", "").strip()
    if words:
        workflows = workflows.filter(name__icontains=words)
    page = Paginator(workflows, PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "rows": selectors.workflow_rows(list(page)), "q": words}
    template = "workflows_app/_workflow_table.html" if request.htmx else "workflows_app/workflow_list.html"
    return render(request, template, context)


def _workflow(request: PageRequest, workflow_id: str) -> Workflow:
    return get_object_or_404(selectors.workflows_of(request.user), pk=workflow_id)


@require_safe
@page_needs(Verb.READ)
def workflow_detail(request: PageRequest, workflow_id: str) -> HttpResponse:
    """`/workflows/ID/`: workflow, services, replicas; revisions; queued analyses."""
    workflow = _workflow(request, workflow_id)
    [row] = selectors.workflow_rows([workflow])
    tree = []
    if row.deployment is not None:
        services_seen = row.deployment.services.prefetch_related("replicas")
        tree = [(selectors.ServiceRow(service), list(service.replicas.all())) for service in services_seen]
    runs = workflow.runs.defer("body", "answer").select_related("owner").order_by("-created_at")[:RUNS_SHOWN]
    context = {
        "workflow": workflow,
        "row": row,
        "tree": tree,
        "revisions": list(workflow.revisions.select_related("created_by")[:20]),
        "runs": [(run, RUN_LOOKS[run.status]) for run in runs],
    }
    template = "workflows_app/_workflow_detail.html" if request.htmx else "workflows_app/workflow_detail.html"
    return render(request, template, context)


@require_safe
@page_needs(Verb.READ)
def replica_log(request: PageRequest, workflow_id: str, service: str, replica: str) -> HttpResponse:
    """The last lines that a replica wrote."""
    workflow = _workflow(request, workflow_id)
    context = {"workflow": workflow, "service": service, "replica": replica, "text": "", "wrong": ""}
    try:
        context["text"] = services.read_logs(workflow=workflow, service=service, replica=replica)
    except (RuntimeFault, InvalidTransition) as error:
        context["wrong"] = str(error)
    return render(request, "workflows_app/replica_log.html", context)


# -- what can be done ----------------------------------------------------------------------------------


def _do(request: PageRequest, act: Callable[[], Any], done: str, back: str) -> HttpResponse:
    """Run a use case and answer with a toast; what can't be done changes nothing."""
    try:
        act()
    except InvalidTransition as error:
        messages.error(request, f"Nothing was done: {error}")
    except ValidationError as error:
        messages.error(request, f"Nothing was done: {' '.join(error.messages)}")
    else:
        messages.success(request, done)
    return redirect(back)


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def workflow_publish(request: PageRequest, workflow_id: str) -> HttpResponse:
    """Confirm, then publish the workflow as it is described now."""
    workflow = _workflow(request, workflow_id)
    back = f"/workflows/{workflow.pk}/"
    total = sum(spec.get("replicas", 1) for spec in workflow.services)
    names = ", ".join(f"{spec['name']} × {spec.get('replicas', 1)}" for spec in workflow.services)
    lines = [f"{total} replicas on runtime {workflow.runtime}: {names}."]
    question = Question(f"Publish {workflow.name}?", lines, "Publish", back, about=(workflow.body(),))
    done = f"{workflow.name} is being published."
    return question.answer(request) or _do(
        request, lambda: services.publish_workflow(workflow=workflow, actor=request.user), done, back
    )


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def workflow_unpublish(request: PageRequest, workflow_id: str) -> HttpResponse:
    """Confirm, then remove what runs of the workflow."""
    workflow = _workflow(request, workflow_id)
    back = f"/workflows/{workflow.pk}/"
    [row] = selectors.workflow_rows([workflow])
    lines = [f"{row.instances[0]} active replicas are stopped; requests are refused from then on."]
    question = Question(f"Unpublish {workflow.name}?", lines, "Unpublish", back, danger=True, moving=True)
    done = f"{workflow.name} is being unpublished."
    return question.answer(request) or _do(
        request, lambda: services.unpublish_workflow(workflow=workflow, actor=request.user), done, back
    )


@require_http_methods(["POST"])
@page_needs(Verb.OPERATE)
def workflow_scale(request: PageRequest, workflow_id: str) -> HttpResponse:
    """Another number of replicas for one service."""
    workflow = _workflow(request, workflow_id)
    back = f"/workflows/{workflow.pk}/"
    form = ScaleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Nothing was done: give a number of replicas from 0 to 1,000.")
        return redirect(back)
    asked = form.cleaned_data
    return _do(
        request,
        lambda: services.scale_service(workflow=workflow, actor=request.user, **asked),
        f"{asked['service']} is being scaled to {asked['replicas']}.",
        back,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def workflow_rollback(request: PageRequest, workflow_id: str) -> HttpResponse:
    """Confirm, then return to an earlier revision."""
    workflow = _workflow(request, workflow_id)
    back = f"/workflows/{workflow.pk}/"
    form = RollbackForm(request.POST if request.method == "POST" else request.GET)
    if not form.is_valid():
        messages.error(request, "Nothing was done: there is no such revision.")
        return redirect(back)
    revision = form.cleaned_data["revision"]
    which = f"revision {revision}" if revision else "the revision before"
    [row] = selectors.workflow_rows([workflow])
    question = Question(
        title=f"Roll {workflow.name} back to {which}?",
        lines=[
            "It becomes the newest revision under a new number and is rolled out; replicas stay as scaled."
        ],
        verb="Roll back",
        back=back,
        hidden={"revision": str(revision or "")},
        about=(row.deployment.revision_id if row.deployment else None,),
    )
    return question.answer(request) or _do(
        request,
        lambda: services.roll_back(workflow=workflow, actor=request.user, revision=revision),
        f"{workflow.name} is being rolled back to {which}.",
        back,
    )
