"""BOS v1: session templates, sessions, version, health (contracts, BOS 1)."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from sessions_app.bos import BosView, Problem, storable
from sessions_app.bos_v1_documents import Tree, read_tree, session_description
from sessions_app.bos_v2_documents import template_document
from sessions_app.models import BootSession, SessionTemplate

NO_TENANTS = "Multi-tenancy not supported"
WHY_NO_TENANTS = "BOS v1 endpoints do not support multi-tenancy and a tenant was specified in the header"


def reply(document: Any, status: int = 200) -> HttpResponse:
    """A document as the original prints it: sorted keys, indented by two."""
    text = json.dumps(document, sort_keys=True, indent=2) + "\n"
    return HttpResponse(text, status=status, content_type="application/json")


class Plain(Exception):
    """Ends a request with one of v1's hand-made errors, which are no problem documents; "" is no body."""

    def __init__(self, status: int, document: Any) -> None:
        super().__init__(str(document))
        self.status, self.document = status, document


class V1View(BosView):
    """A door of BOS v1: knows no tenants."""

    tenants_refused = True

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.tenants_refused and self.named_tenant:
            raise Problem(400, WHY_NO_TENANTS, title=NO_TENANTS)

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, Plain):
            if exc.document == "":
                return HttpResponse(status=exc.status)
            return reply(exc.document, exc.status)
        return super().handle_exception(exc)

    def tree(self, session_id: str, missing: Any = "") -> Tree:
        """The session of a v1 id with its boot sets and phases. Raises Plain 404 with the body `missing`."""
        try:
            wanted = UUID(session_id)
        except ValueError:
            raise Plain(404, missing) from None
        found = read_tree(uuid=wanted, domain=self.tenant())
        if found is None:
            raise Plain(404, missing)
        return found


class TemplatesView(V1View):
    """GET, POST /v1/sessiontemplate"""

    def get(self, request: Request) -> HttpResponse:
        """All templates."""
        rows = SessionTemplate.objects.visible_to(request.user).filter(domain=self.tenant()).order_by("name")
        return reply([template_document(template) for template in rows.select_related("domain")])


class TemplateView(V1View):
    """GET, DELETE /v1/sessiontemplate/{id}"""

    def get(self, request: Request, name: str) -> HttpResponse:
        """One template."""
        return reply(template_document(self.template(name)))

    def template(self, name: str) -> SessionTemplate:
        """The named one. Raises Problem 404."""
        rows = SessionTemplate.objects.visible_to(self.request.user).select_related("domain")
        found: SessionTemplate | None = None
        if storable(name):
            found = rows.filter(name=name, domain=self.tenant()).first()
        if found is None:
            raise Problem(
                404, f"Sessiontemplate {name} could not be found", title="Sessiontemplate could not found."
            )
        return found


class SessionsView(V1View):
    """GET, POST /v1/session"""

    def get(self, request: Request) -> HttpResponse:
        """Ids of all sessions."""
        rows = BootSession.objects.visible_to(request.user).filter(domain=self.tenant()).order_by("id")
        return reply([str(found) for found in rows.values_list("uuid", flat=True)])


class SessionView(V1View):
    """GET, DELETE /v1/session/{id}"""

    def get(self, request: Request, session_id: str) -> HttpResponse:
        """What it is and how far."""
        return reply(session_description(self.tree(session_id, missing={})))
