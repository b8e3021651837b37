"""Start a session: a form, a preview that names every node, then the start of exactly that."""

from __future__ import annotations

import uuid as uuids
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.forms import UUIDField
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts_app.asking import digest_of
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from sessions_app import selectors, services
from sessions_app.confirming import Confirmation
from sessions_app.forms import StartForm
from sessions_app.models import BootSession, Node, SessionTemplate
from sessions_app.nodeset import NodeSetError, fold
from sessions_app.states import Operation
from sessions_app.targets import Chosen
from sessions_app.views.picking import pick, pick_words, visible_nodes
from sessions_app.views.sessions import started_message


@dataclass
class Preview:
    """What a start would hit."""

    chosen: Chosen
    names: list[str]
    limit: str
    boot_sets: list[tuple[str, int, str]]
    takes_from: list[tuple[str, str, int, str]]  # name, uuid, count, nodes
    unknown: tuple[str, ...]


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.OPERATE)
def session_start(request: PageRequest) -> HttpResponse:
    """GET fills the form from the URL, or like a session (`again=UUID`, `error=` for some of it); POST
    shows the preview. POST with `confirm` starts exactly what was shown, once, or answers 409 where the nodes
    are others by now."""
    templates = SessionTemplate.objects.visible_to(request.user)
    picked = request.POST.get("pick", "") or request.GET.get("pick", "")
    context: dict[str, Any] = {"pick": picked, "pick_words": pick_words(picked) if picked else ""}
    if request.method != "POST":
        initial = {**_like(request), **{name: value for name, value in request.GET.items() if name != "pick"}}
        context["form"] = StartForm(initial=initial, templates=templates)
        context["no_templates"] = not templates.exists()
        return render(request, "sessions_app/session_start.html", context)
    form = StartForm(request.POST, templates=templates)
    context["form"] = form
    if not form.is_valid() or "edit" in request.POST:
        return render(request, "sessions_app/session_start.html", context, status=400 if form.errors else 200)
    started = _started(request, form)
    if started is not None:
        return started
    try:
        preview = _preview(request, form.cleaned_data, picked)
    except (services.Refused, NodeSetError) as error:
        form.add_error(None, str(error))
        return render(request, "sessions_app/session_start.html", context, status=400)
    return _confirm(request, form, preview, context)


def _started(request: PageRequest, form: StartForm) -> HttpResponse | None:
    """To the session that this confirmation has started already: by a double click, or by the button "back".
    What is confirmed carries the id of its session to be."""
    identity = form.cleaned_data["identity"]
    if identity is None or "confirm" not in request.POST:
        return None
    session = BootSession.objects.visible_to(request.user).filter(uuid=identity).first()
    if session is None:
        return None
    messages.info(request, f"{session.name} was started already; nothing was started twice.")
    return redirect(f"/sessions/{session.uuid}/")


def _like(request: PageRequest) -> dict[str, str]:
    """The form's values for starting a session again. Its nodes go into the form, not into the URL: names
    of thousands of nodes are longer than a URL may be."""
    if "again" not in request.GET:
        return {}
    try:
        identity = UUIDField().clean(request.GET["again"])
    except ValidationError:
        raise Http404 from None
    session = get_object_or_404(BootSession.objects.visible_to(request.user), uuid=identity)
    if "error" in request.GET:
        faults = selectors.faults_of(session)
        names = {name for fault in faults if fault.message == request.GET["error"] for name in fault.names}
    else:
        names = set(session.components.split(",")) - {""}
    return {
        "template": session.template_name,
        "operation": session.operation,
        "nodes": fold(names, most=len(names)),
    }


def _preview(request: PageRequest, asked: dict[str, Any], picked: str) -> Preview:
    """Resolve the form to nodes. Raises Refused or NodeSetError."""
    template: SessionTemplate = asked["template"]
    limit = asked["limit"]
    unknown: tuple[str, ...] = ()
    if picked:
        limit = ",".join(node.name for node in pick(request.user, QueryDict(picked)).nodes)
        if not limit:
            raise services.Refused("No node fits the filter any more.")
    elif asked["nodes"]:
        selection = visible_nodes(request.user, asked["nodes"])
        unknown = selection.unknown
        limit = ",".join(sorted(selection.names))
        if not limit:
            raise services.Refused(f"'{asked['nodes']}' means no node of the inventory.")
    chosen = services.preview_session(
        template=template,
        limit=limit,
        include_disabled=asked["include_disabled"],
        domain=template.domain,
    )
    names = [node.name for nodes in chosen.boot_sets.values() for node in nodes]
    if not names:
        raise services.Refused("No nodes were found to act upon.")
    boot_sets = [
        (name, len(nodes), fold(node.name for node in nodes)) for name, nodes in chosen.boot_sets.items()
    ]
    takes = (
        [] if asked["stage"] else _takes_from([node.id for ns in chosen.boot_sets.values() for node in ns])
    )
    # The session is given these names, not what they were found by: a worker resolves it later, and a node
    # that joins a group until then was not shown.
    return Preview(chosen, names, ",".join(names), boot_sets, takes, unknown)


def _takes_from(ids: list[int]) -> list[tuple[str, str, int, str]]:
    """Running sessions that lose nodes, with how many and which."""
    lost: dict[tuple[str, str], list[str]] = defaultdict(list)
    for start in range(0, len(ids), 5000):
        busy = Node.objects.filter(
            id__among=ids[start : start + 5000], enabled=True, session__status="running"
        )
        for name, session, uuid in busy.values_list("name", "session__name", "session__uuid"):
            lost[session, str(uuid)].append(name)
    return [(name, uuid, len(nodes), fold(nodes, most=12)) for (name, uuid), nodes in lost.items()]


def _confirm(
    request: PageRequest, form: StartForm, preview: Preview, context: dict[str, Any]
) -> HttpResponse:
    asked = form.cleaned_data
    identity = asked["identity"] or uuids.uuid4()
    template: SessionTemplate = asked["template"]
    count = len(preview.names)
    operation = Operation(asked["operation"])
    word = "shut down" if operation == Operation.SHUTDOWN else operation.label
    verb = "Stage" if asked["stage"] else word.capitalize()
    confirmation = Confirmation(
        title=f"{verb} {count:,} node{'' if count == 1 else 's'}?",
        verb=f"{verb} {count:,} node{'' if count == 1 else 's'}",
        count=count,
        names=preview.names,
        left_out=preview.chosen.left_out,
        back="/sessions/start",
        digest=digest_of(
            *(template.pk, template.updated_at, asked["operation"], asked["stage"]),
            *chain.from_iterable(
                (name, [node.name for node in nodes]) for name, nodes in preview.chosen.boot_sets.items()
            ),
        ),
        takes_from={uuid for _, uuid, _, _ in preview.takes_from},
        hidden={"identity": str(identity)},
        danger=asked["operation"] != Operation.BOOT and not asked["stage"],
    )
    context |= {"confirmation": confirmation, "preview": preview, "asked": asked, "template": template}
    page = "sessions_app/session_preview.html"
    if "confirm" not in request.POST:
        return render(request, page, context)
    if confirmation.answer(request) is not None:
        return render(request, page, context, status=409 if confirmation.changed else 400)
    try:
        session = services.start_session(
            template=template,
            operation=asked["operation"],
            actor=request.user,
            name=asked["name"],
            identity=identity,
            limit=preview.limit,
            stage=asked["stage"],
            include_disabled=asked["include_disabled"],
        )
    except services.Refused as error:
        form.add_error(None, str(error))
        refusal = render(request, "sessions_app/session_start.html", context, status=409)
        return _started(request, form) or refusal
    messages.success(request, started_message(session, count))
    return redirect(f"/sessions/{session.uuid}/")
