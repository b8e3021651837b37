"""Pages that belong to no area: sign in and out, search, preferences."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe
from django.views.defaults import page_not_found

from accounts_app import single_sign_on
from accounts_app.permissions import PageRequest, page_needs
from accounts_app.states import Verb
from config import frontdoor
from config.context import THEMES, TIMES, navigation
from sessions_app.selectors import find_nodes, find_sessions
from tasks_app.selectors import tasks_of
from workflows_app.selectors import workflows_of

MOST = 20  # tasks and workflows that a search shows
YEAR = 365 * 24 * 3600


class SignIn(LoginView):
    """`/login`: too many wrong passwords for one name from one place are answered by 429 for a while."""

    redirect_authenticated_user = False

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """With the other way in, where there is one."""
        sso = settings.MUSTER_OIDC["label"] if single_sign_on.is_configured() else ""
        return super().get_context_data(sso=sso, passwords=settings.MUSTER_PASSWORDS, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if frontdoor.too_many_tries(request, request.POST.get("username", "")):
            context = self.get_context_data(throttled="Too many wrong passwords. Try again in a few minutes.")
            context["form"].errors["__all__"] = [context["throttled"]]
            return self.render_to_response(context, status=429)
        return super().post(request, *args, **kwargs)

    def form_invalid(self, form: Any) -> HttpResponse:
        frontdoor.note_failed_try(self.request, self.request.POST.get("username", ""))
        return self.render_to_response(self.get_context_data(form=form), status=400)


def admin_login(request: HttpRequest) -> HttpResponse:
    """The admin's login is the dashboard's: one door to guard against guessing."""
    target = request.GET.get("next", "/admin/")
    return redirect(f"/login?{urlencode({'next': target}, safe='/')}")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Forget the login; at the site's issuer, too, where he came from there and the site wants it."""
    target = single_sign_on.end_url(request) or "/login"
    logout(request)
    return redirect(target)


@require_POST
def preferences(request: HttpRequest) -> HttpResponse:
    """Theme and time zone of this browser, kept in cookies; for browsers without script."""
    target = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(target, {request.get_host()}, request.is_secure()):
        target = "/"
    response = redirect(target)
    for name, choices in (("theme", THEMES), ("time", TIMES)):
        value = request.POST.get(name)
        if value in [choice for choice, _ in choices]:
            response.set_cookie(
                f"muster_{name}", value, max_age=YEAR, samesite="Lax", secure=request.is_secure()
            )
    return response


@require_safe
@page_needs(Verb.READ)
def rail(request: PageRequest) -> HttpResponse:
    """The rail's entries with their counts, fetched again while the page is open."""
    entries = navigation(request.user, request.GET.get("here", ""), counts=True)
    return render(request, "_rail.html", {"navigation": entries})


@require_safe
@page_needs(Verb.READ)
def search(request: PageRequest) -> HttpResponse:
    """`/search?q=`: one box for nodes by range, sessions, tasks and workflows. One exact hit is opened."""
    words = request.GET.get("q", "").strip()
    context: dict[str, Any] = {"q": words}
    if words:
        user = request.user
        nodes, sessions = find_nodes(user, words), find_sessions(user, words)
        if nodes.names == [words.lower()] and not sessions:
            return redirect(f"/nodes/{nodes.names[0]}/")
        tasks = tasks_of(user).filter(name__icontains=words)
        workflows = workflows_of(user).filter(Q(name__icontains=words) | Q(pk__iexact=words))
        context |= {"nodes": nodes, "sessions": sessions}
        context |= {"tasks": tasks[:MOST], "workflows": workflows[:MOST]}
    return render(request, "search.html", context)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404 in the form of the door: a problem document for programs, a page for people."""
    if request.path.startswith(("/api/", "/apis/", "/v1/", "/v2/")):
        body = {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "There is no such path.",
        }
        return JsonResponse(body, status=404, content_type="application/problem+json")
    return page_not_found(request, exception)
