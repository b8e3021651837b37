"""Pages of one's own keys."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts_app.asking import Question
from accounts_app.forms import KeyForm
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.services import issue_key, revoke_key
from accounts_app.states import Verb


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.READ)
@never_cache
def keys(request: PageRequest) -> HttpResponse:
    """`/keys/`: one's keys; POST makes one and shows its secret, once."""
    form = KeyForm(request.POST if request.method == "POST" else None, user=request.user)
    issued = None
    status = 200
    if request.method == "POST":
        if form.is_valid():
            asked = form.cleaned_data
            issued = issue_key(
                user=request.user,
                actor=request.user,
                name=asked["name"],
                scope=asked["scope"],
                expires_at=form.expires_at,
            )
            form = KeyForm(user=request.user)
        else:
            status = 400
    context = {"form": form, "issued": issued, "keys": request.user.keys.order_by("-created_at")}
    return render(request, "accounts_app/keys.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@page_needs(Verb.READ)
def key_revoke(request: PageRequest, access_key: str) -> HttpResponse:
    """Confirm, then make one of one's keys useless."""
    key = get_object_or_404(request.user.keys, access_key=access_key)
    question = Question(
        title=f"Revoke key {key.name or key.access_key}?",
        lines=["Whatever uses it is refused from this moment on. It can't be brought back."],
        verb="Revoke the key",
        back="/keys/",
        danger=True,
    )
    answer = question.answer(request)
    if answer is not None:
        return answer
    revoke_key(key=key, actor=request.user)
    messages.success(request, f"Key {key.name or key.access_key} is revoked.")
    return redirect("/keys/")
