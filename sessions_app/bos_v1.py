"""BOS v1: session templates, sessions, version, health (contracts, BOS 1)."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from accounts_app.idempotency import idempotent
from accounts_app.models import ApiKey
from sessions_app import bos_v1_schemas as schemas
from sessions_app import services, services_bos
from sessions_app.bos import BosView, Problem, nothing, storable, well_named
from sessions_app.bos_v1_documents import Tree, read_tree, session_description
from sessions_app.bos_v2 import EXAMPLE, database_answers, version_document
from sessions_app.bos_v2_documents import template_document
from sessions_app.models import BootSession, SessionTemplate

VERSION = ("2", "16", "0")  # the last release of BOS with v1
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

    def post(self, request: Request) -> HttpResponse:
        """Create or overwrite; the answer is the name."""
        body = self.body(schemas.TEMPLATE)
        name = body["name"]
        if not well_named(name):
            raise Problem(400, f"'{name[:200]}' is not the name of a session template - 'name'")
        services_bos.put_template(
            name=name, body=without_old(body), domain=self.tenant(), actor=request.user, strict=False
        )
        return reply(name, 201)


def without_old(body: dict[str, Any]) -> dict[str, Any]:
    """A template without its name and without the fields of older releases (contracts, BOS 1.2)."""
    found = {key: value for key, value in body.items() if key not in {"name", *schemas.OLD_TEMPLATE}}
    if "cfs" in found:
        found["cfs"] = {key: value for key, value in found["cfs"].items() if key not in schemas.OLD_CFS}
    if "boot_sets" in found:
        found["boot_sets"] = {
            name: {key: value for key, value in boot_set.items() if key not in schemas.OLD_BOOT_SET}
            for name, boot_set in found["boot_sets"].items()
        }
    return found


class TemplateView(V1View):
    """GET, DELETE /v1/sessiontemplate/{id}"""

    def get(self, request: Request, name: str) -> HttpResponse:
        """One template."""
        return reply(template_document(self.template(name)))

    def delete(self, request: Request, name: str) -> HttpResponse:
        """Forget it."""
        services_bos.delete_template(template=self.template(name), actor=request.user)
        return nothing()

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
        rows = (
            BootSession.objects.by_template()
            .visible_to(request.user)
            .filter(domain=self.tenant())
            .order_by("id")
        )
        return reply([str(found) for found in rows.values_list("uuid", flat=True)])

    @idempotent
    def post(self, request: Request) -> HttpResponse:
        """Start a session; its id is in the links."""
        body = self.body(schemas.SESSION)
        name = body.get("templateName") or body.get("templateUuid")
        if not name:
            raise Problem(400, "'templateName' is a required property")
        found = SessionTemplate.objects.visible_to(request.user).filter(name=name, domain=self.tenant())
        template = found.select_related("domain").first()
        if template is None:
            raise Plain(404, f"Session Template ID invalid: {name}")
        operation = body["operation"].lower()
        try:
            services_bos.check_template(template=template, operation=operation)
            session = services.start_session(
                template=template,
                operation=operation,
                actor=self.person,
                key=request.auth if isinstance(request.auth, ApiKey) else None,
                limit=body.get("limit", ""),
            )
        except services.Refused as error:
            raise Plain(400, str(error)) from None
        return reply(self._created(body, name, session.uuid), 201)

    @staticmethod
    def _created(body: dict[str, Any], template: str, session_id: UUID) -> dict[str, Any]:
        job, path = f"boa-{session_id}", f"/v1/session/{session_id}"
        document = {
            "job": job,
            "links": [
                {"href": path, "jobId": job, "rel": "session", "type": "GET"},
                {"href": f"{path}/status", "rel": "status", "type": "GET"},
            ],
            "operation": body["operation"],
            "templateName": template,
        }
        return {**document, "limit": body["limit"]} if "limit" in body else document


class SessionView(V1View):
    """GET, DELETE /v1/session/{id}"""

    def get(self, request: Request, session_id: str) -> HttpResponse:
        """What it is and how far."""
        return reply(session_description(self.tree(session_id, missing={})))

    def delete(self, request: Request, session_id: str) -> HttpResponse:
        """Forget it; one that runs is cancelled first."""
        missing = f"Sesssion: {session_id} not found"  # the original's spelling
        tree = self.tree(session_id, missing=missing)
        session = BootSession.objects.select_related("domain").filter(pk=tree.session.pk).first()
        if session is None:
            raise Plain(404, missing)
        services_bos.delete_session(session=session, actor=request.user)
        return nothing()


# -- the service itself -----------------------------------------------------------------------------


class VersionView(V1View):
    """GET /v1 and /v1/version"""

    tenants_refused = False

    def get(self, request: Request) -> HttpResponse:
        """The release of BOS whose v1 this is."""
        return reply(version_document(request._request, VERSION, "/v1"))


class HealthView(V1View):
    """GET /v1/healthz"""

    tenants_refused = False

    def get(self, request: Request) -> HttpResponse:
        """503 where the database is away."""
        if not database_answers():
            raise Problem(503, "The database does not answer.", title="Not Ready")
        return reply({"apiStatus": "ok", "dbStatus": "ok"})


class TemplateExampleView(V1View):
    """GET /v1/sessiontemplatetemplate"""

    tenants_refused = False

    def get(self, request: Request) -> HttpResponse:
        """A skeleton to start from."""
        return reply(EXAMPLE)
