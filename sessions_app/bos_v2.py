"""BOS v2: sessions, their status, session templates, version, health (contracts, BOS 2)."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import DatabaseError, connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from accounts_app.idempotency import idempotent
from accounts_app.models import ApiKey, Domain
from sessions_app import bos_v2_schemas as schemas
from sessions_app import services, services_bos
from sessions_app.bos import BosView, Problem, answer, check, not_found, nothing
from sessions_app.bos_v2_documents import session_document, template_document
from sessions_app.bos_v2_parameters import NAME, SESSIONS_QUERY, V2View
from sessions_app.bos_v2_status import status_of
from sessions_app.models import BootSession, SessionTemplate
from sessions_app.models.options import age
from sessions_app.states import Operation, SessionStatus

VERSION = ("2", "50", "0")  # the release of BOS whose API this is
TEMPLATE, SESSION = "Session template", "Session"


class TenantView(V2View):
    """Records of a tenant: lists show all that the user may see, single ones are the named tenant's."""

    def listed(self, rows: Any) -> Any:
        """Rows of a list: with a tenant its own, without one everybody's whom the user may see."""
        if self.named_tenant:
            rows = rows.filter(domain=self.tenant())
        return rows.visible_to(self.request.user).select_related("domain")

    def single(self, rows: Any, kind: str, name: str) -> Any:
        """The named row of the tenant. Raises Problem 404."""
        domain = self.tenant()
        found = rows.visible_to(self.request.user).select_related("domain").filter(name=name, domain=domain)
        row = found.first()
        if row is None:
            raise not_found(kind, name, domain)
        return row


# -- session templates ----------------------------------------------------------------------------


class TemplatesView(TenantView):
    """GET /v2/sessiontemplates"""

    def get(self, request: Request) -> HttpResponse:
        """All templates, by name."""
        rows = self.listed(SessionTemplate.objects.order_by("name", "id"))
        return answer([template_document(template) for template in rows])


class TemplateView(TenantView):
    """GET, PUT, PATCH, DELETE /v2/sessiontemplates/{id}"""

    in_path: ClassVar[dict[str, Any]] = {"name": NAME}

    def get(self, request: Request, name: str) -> HttpResponse:
        """One template."""
        return answer(template_document(self.single(SessionTemplate.objects.all(), TEMPLATE, name)))

    def put(self, request: Request, name: str) -> HttpResponse:
        """Create or replace. What GET answers may be sent back as it is."""
        body = self.body()
        domain = self.tenant(must_exist=True)
        body = self._without_read_only(body, name, domain)
        check(body, schemas.TEMPLATE)
        template = services_bos.put_template(name=name, body=body, domain=domain, actor=request.user)
        return answer(template_document(template))

    def patch(self, request: Request, name: str) -> HttpResponse:
        """Merge; a boot set that exists keeps the fields that are not named."""
        body = self._without_read_only(self.body(), name, self.tenant())
        check(body, schemas.TEMPLATE_PATCH)
        template = self.single(SessionTemplate.objects.all(), TEMPLATE, name)
        template = services_bos.patch_template(template=template, patch=body, actor=request.user)
        return answer(template_document(template))

    def delete(self, request: Request, name: str) -> HttpResponse:
        """Forget it."""
        template = self.single(SessionTemplate.objects.all(), TEMPLATE, name)
        services_bos.delete_template(template=template, actor=request.user)
        return nothing()

    @staticmethod
    def _without_read_only(body: Any, name: str, domain: Domain | None) -> Any:
        """The body without read-only fields. Raises Problem 400 where they say what is not so."""
        if not isinstance(body, dict):
            return body
        tenants = {domain.name} if domain else {None, ""}
        for field, so in {"name": body.get("name") == name, "tenant": body.get("tenant") in tenants}.items():
            if field in body and not so:
                raise Problem(400, f"Property is read-only - '{field}'")
        return {key: value for key, value in body.items() if key not in {"name", "tenant", "links"}}


class TemplateValidView(TenantView):
    """GET /v2/sessiontemplatesvalid/{id}"""

    in_path: ClassVar[dict[str, Any]] = {"name": NAME}

    def get(self, request: Request, name: str) -> HttpResponse:
        """One sentence: Valid, or what is wrong, or what may be; 200 in any case."""
        template = self.single(SessionTemplate.objects.all(), TEMPLATE, name)
        try:
            warnings = services_bos.check_template(template=template, operation=Operation.BOOT)
        except services.Refused as error:
            return answer(str(error))
        return answer("; ".join(warnings) or "Valid")


class TemplateExampleView(BosView):
    """GET /v2/sessiontemplatetemplate"""

    def get(self, request: Request) -> HttpResponse:
        """A skeleton to start from."""
        return answer(EXAMPLE)


EXAMPLE: dict[str, Any] = {
    "boot_sets": {
        "name_your_boot_set": {
            "arch": "X86",
            "cfs": {"configuration": "configuration-of-this-boot-set"},
            "etag": "etag-of-the-manifest",
            "kernel_parameters": "kernel-parameters",
            "node_list": ["x3000c0s1b0n0", "x3000c0s2b0n0"],
            "path": "s3://boot-images/image-id/manifest.json",
            "rootfs_provider": "sbps",
            "rootfs_provider_passthrough": "v1:iqn.2023-06.csm.iscsi:_sbps-hsn._tcp.my-domain:300",
            "type": "s3",
        }
    },
    "cfs": {"configuration": "configuration-of-all-boot-sets"},
    "description": "What this template is for",
    "enable_cfs": True,
    "name": "name-your-template",
}


# -- sessions -------------------------------------------------------------------------------------


class SessionsView(TenantView):
    """GET, POST, DELETE /v2/sessions"""

    def get(self, request: Request) -> HttpResponse:
        """Sessions, oldest first, filtered by age and status."""
        return answer([session_document(session) for session in self._filtered()])

    @idempotent
    def post(self, request: Request) -> HttpResponse:
        """Start a session, or stage one."""
        body = self.body(schemas.SESSION)
        domain = self.tenant(must_exist=True)
        template = SessionTemplate.objects.select_related("domain").filter(
            name=body["template_name"], domain=domain
        )
        found = template.first()
        if found is None:
            raise Problem(400, f"Session Template Name invalid: {body['template_name']}")
        try:
            services_bos.check_template(template=found, operation=body["operation"])
        except services.Refused as error:
            raise Problem(400, f"Session template fails check: {error}") from None
        try:
            session = services.start_session(
                template=found,
                operation=body["operation"],
                actor=self.person,
                key=request.auth if isinstance(request.auth, ApiKey) else None,
                name=body.get("name", ""),
                limit=body.get("limit") or "",
                stage=body.get("stage", False),
                include_disabled=body.get("include_disabled", False),
            )
        except services.NameTaken:
            tenant = f" for tenant '{domain.name}'" if domain else ""
            raise Problem(409, f"Session '{body['name']}' already exists{tenant}") from None
        return answer(session_document(session), status=201)

    def delete(self, request: Request) -> HttpResponse:
        """Forget the sessions that match; without a `status` only complete ones."""
        rows = self._filtered()
        if not request.GET.get("status"):
            rows = rows.filter(status=SessionStatus.COMPLETE)
        for session in rows:
            services_bos.delete_session(session=session, actor=request.user)
        return nothing()

    def _filtered(self) -> QuerySet[BootSession]:
        query = self.request.GET
        self.check_query(SESSIONS_QUERY)
        rows = self.listed(BootSession.objects.by_template().order_by("created_at", "id"))
        now = timezone.now()
        try:
            if query.get("min_age"):
                rows = rows.filter(created_at__lt=now - age(query["min_age"]))
            if query.get("max_age"):
                rows = rows.filter(created_at__gt=now - age(query["max_age"]))
        except (ValueError, OverflowError) as error:
            raise Problem(400, str(error)) from None
        if query.get("status"):
            rows = rows.filter(status=query["status"])
        return rows


class SessionView(TenantView):
    """GET, PATCH, DELETE /v2/sessions/{id}"""

    in_path: ClassVar[dict[str, Any]] = {"name": NAME}

    def get(self, request: Request, name: str) -> HttpResponse:
        """One session's record."""
        return answer(session_document(self.single(BootSession.objects.by_template(), SESSION, name)))

    def patch(self, request: Request, name: str) -> HttpResponse:
        """BOS's internal write."""
        body = self.body(schemas.SESSION_PATCH)
        session = self.single(BootSession.objects.by_template(), SESSION, name)
        session = services_bos.patch_session(session=session, patch=body, actor=request.user)
        return answer(session_document(session))

    def delete(self, request: Request, name: str) -> HttpResponse:
        """Forget it; one that runs is cancelled first."""
        session = self.single(BootSession.objects.by_template(), SESSION, name)
        services_bos.delete_session(session=session, actor=request.user)
        return nothing()


class SessionStatusView(TenantView):
    """GET, POST /v2/sessions/{id}/status"""

    in_path: ClassVar[dict[str, Any]] = {"name": NAME}
    verbs: ClassVar[dict[str, str]] = {"POST": "read"}

    def get(self, request: Request, name: str) -> HttpResponse:
        """How far it is."""
        domain = self.tenant()
        document = status_of(name=name, domain=domain)
        if document is None:
            raise not_found(SESSION, name, domain)
        return answer(document)

    def post(self, request: Request, name: str) -> HttpResponse:
        """The original saves the status here; ours is always the one of the rows, so there is nothing to
        save."""
        return self.get(request, name)


# -- the service itself ---------------------------------------------------------------------------


def root_of(request: HttpRequest) -> str:
    """Where this door's paths begin, as the client sees them."""
    prefix = "/apis/bos" if request.path.startswith("/apis/bos") else ""
    return request.build_absolute_uri("/")[:-1] + prefix


def version_document(request: HttpRequest, version: tuple[str, str, str], path: str) -> dict[str, Any]:
    """One version; `path` ("/v2") leads back to it."""
    root = root_of(request)
    major, minor, patch = version
    links = [{"href": f"{root}/", "rel": "self"}]
    if path:
        links.append({"href": f"{root}{path}", "rel": "versions"})
    return {"links": links, "major": major, "minor": minor, "patch": patch}


class VersionView(BosView):
    """GET /v2 and /v2/version"""

    def get(self, request: Request) -> HttpResponse:
        """The version of BOS's API that this is."""
        return answer(version_document(request._request, VERSION, "/v2"))


class VersionsView(BosView):
    """GET /apis/bos/"""

    def get(self, request: Request) -> HttpResponse:
        """All versions, as an array with one."""
        return answer([version_document(request._request, VERSION, "")])


class HealthView(BosView):
    """GET /v2/healthz"""

    def get(self, request: Request) -> HttpResponse:
        """200 also where the database is away, as the original."""
        return answer({"apiStatus": "ok", "dbStatus": "ok" if database_answers() else "not_available"})


def database_answers() -> bool:
    """Whether the database can be asked anything."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True
