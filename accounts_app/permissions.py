"""What a role and a key's scope allow, for pages and JSON alike. Deny by default."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django_htmx.middleware import HtmxDetails
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts_app.limits import refuse_long_body
from accounts_app.models import Grant, User
from accounts_app.states import Verb


def may(user: Any, verb: str, key: Any = None) -> bool:
    """Whether `user`, by his role and the scope of the key or token he came with, may `verb`."""
    if not getattr(user, "is_authenticated", False) or not user.may(verb):
        return False
    return key.allows(verb) if isinstance(key, Grant) else True


class RolePermission(BasePermission):
    """Reading needs `read`; anything else the view's `verb` (by default `operate`)."""

    def has_permission(self, request: Request, view: Any) -> bool:
        verb = Verb.READ if request.method in SAFE_METHODS else getattr(view, "verb", Verb.OPERATE)
        return may(request.user, verb, request.auth)


class SuperadminWrites(RolePermission):
    """For what belongs to the whole site: everybody reads, only superadmins change."""

    def has_permission(self, request: Request, view: Any) -> bool:
        view_verb = Verb.READ if request.method in SAFE_METHODS else Verb.ADMIN
        if not may(request.user, view_verb, request.auth):
            return False
        return request.method in SAFE_METHODS or bool(getattr(request.user, "is_superadmin", False))


class SuperadminReads(RolePermission):
    """For what tells of all domains at once."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return super().has_permission(request, view) and bool(getattr(request.user, "is_superadmin", False))


class PageRequest(HttpRequest):
    """What `page_needs` hands on: somebody is signed in, and django-htmx has looked at the headers."""

    user: User
    htmx: HtmxDetails


def page_needs(verb: str) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """For function views of pages: log in first, then the verb, else 403; no body beyond all bounds."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        @login_required
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not may(request.user, verb):
                raise PermissionDenied(f"Your role does not allow you to {Verb(verb).label} here.")
            refuse_long_body(request)
            return view(request, *args, **kwargs)

        return guarded

    return decorate
