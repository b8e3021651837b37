"""Import nodes and BMCs from CSV: first what it would do, then exactly that."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts_app.asking import digest_of
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from sessions_app.confirming import Confirmation
from sessions_app.importing import COLUMNS, ImportRefused, Plan, carry_out, plan_import
from sessions_app.nodeset import fold

MOST_SHOWN = 30  # problems on the page


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.ADMIN)
def node_import(request: PageRequest) -> HttpResponse:
    """`/nodes/import`: superadmins only, for a file may name any domain and make groups."""
    user = request.user
    if not user.is_superadmin:
        raise PermissionDenied("Only superadmins import nodes: a file may name any domain.")
    context: dict[str, Any] = {"columns": COLUMNS}
    if request.method != "POST":
        return render(request, "sessions_app/node_import.html", context)
    try:
        text = _text(request)
        plan = plan_import(text.splitlines(keepends=True))
        confirmation = _confirmation(plan, text)
        context |= {"plan": plan, "text": text, "confirmation": confirmation, "bmcs": fold(plan.bmcs, 12)}
        if "confirm" not in request.POST:
            return render(request, "sessions_app/node_import.html", context)
        if confirmation.answer(request) is not None:
            status = 409 if confirmation.changed else 400
            return render(request, "sessions_app/node_import.html", context, status=status)
        carry_out(plan, actor=user)
    except ImportRefused as error:
        context |= {"problems": error.problems[:MOST_SHOWN], "more": len(error.problems) - MOST_SHOWN}
        context["text"] = request.POST.get("text", "")
        return render(request, "sessions_app/node_import.html", context, status=400)
    messages.success(request, f"{len(plan.new):,} nodes were added, {len(plan.changed):,} changed.")
    return redirect("/nodes/")


def _text(request: PageRequest) -> str:
    upload = request.FILES.get("file")
    if upload is None:
        return request.POST.get("text", "")
    try:
        return upload.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ImportRefused(["The file is no text in UTF-8."]) from None


def _confirmation(plan: Plan, text: str) -> Confirmation:
    count = len(plan.rows)
    return Confirmation(
        title="Import",
        verb=f"Import {count:,} node{'' if count == 1 else 's'}",
        count=count,
        names=[row.name for row in plan.rows],
        back="/nodes/",
        digest=digest_of(text, plan.new, plan.changed),
    )
