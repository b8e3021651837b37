"""Pages of one's own keys and filters, and signing in at the site's issuer."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts_app import single_sign_on
from accounts_app.asking import Question
from accounts_app.audit import record_request
from accounts_app.claims import NotMapped
from accounts_app.forms import FilterForm, KeyForm
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.services import issue_key, revoke_key, save_filter
from accounts_app.services_people import know_person
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
                areas=asked["areas"],
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


@require_safe
@never_cache
def sso_start(request: HttpRequest) -> HttpResponse:
    """`/login/sso?next=`: lead to the site's issuer; 404 where there is none."""
    if not single_sign_on.is_configured():
        raise Http404
    target = request.GET.get("next", "")
    inside = url_has_allowed_host_and_scheme(target, {request.get_host()}, request.is_secure())
    try:
        return single_sign_on.start(request, target if inside else "/")
    except single_sign_on.NotSignedIn as refused:
        return _not_signed_in(request, str(refused), refused.status)


@require_safe
@never_cache
def sso_callback(request: HttpRequest) -> HttpResponse:
    """`/login/sso/callback`: the browser is back from the issuer. A row of the audit tells of both ends."""
    if not single_sign_on.is_configured():
        raise Http404
    try:
        person, target = single_sign_on.finish(request)
        request.recognised_as = person.username  # type: ignore[attr-defined]  # for the audit
        user = know_person(person)
    except single_sign_on.NotSignedIn as refused:
        response = _not_signed_in(request, str(refused), refused.status)
    except NotMapped as refused:
        response = _not_signed_in(request, str(refused), 403)
    else:
        kept = request.session.get(single_sign_on.ID_TOKEN)
        login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])  # under a new session key
        if kept:
            request.session[single_sign_on.ID_TOKEN] = kept
        request.session.set_expiry(timedelta(hours=settings.MUSTER_OIDC["session_hours"]))
        response = redirect(target)
    response.delete_cookie(single_sign_on.COOKIE, path=single_sign_on.CALLBACK)
    record_request(request, response.status_code)
    return response


def _not_signed_in(request: HttpRequest, message: str, status: int) -> HttpResponse:
    return render(request, "accounts_app/not_signed_in.html", {"message": message}, status=status)


@require_POST
@page_needs(Verb.READ)
def filter_save(request: PageRequest) -> HttpResponse:
    """Keep the filter of a list under a name, and go back to it."""
    form = FilterForm(request.POST)
    if not form.is_valid():
        messages.error(request, "The filter was not kept: it needs a name of at most 40 characters.")
        page = form.cleaned_data.get("page")
        return redirect(f"/{page}/" if page else "/")
    asked = form.cleaned_data
    try:
        saved = save_filter(user=request.user, **asked)
    except ValueError as error:
        messages.error(request, str(error))
        return redirect(f"/{asked['page']}/?{asked['query']}")
    return redirect(saved.url)


@require_POST
@page_needs(Verb.READ)
def filter_forget(request: PageRequest, number: int) -> HttpResponse:
    """Forget one of one's own filters; the list stays as it is."""
    saved = get_object_or_404(request.user.saved_filters, pk=number)
    saved.delete()
    return redirect(saved.url)
