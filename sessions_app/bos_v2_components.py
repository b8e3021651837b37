"""BOS v2: components, options, staged sessions (contracts, BOS 2.4, 2.5, 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.exceptions import MethodNotAllowed, NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts_app.permissions import RolePermission, SuperadminWrites
from accounts_app.states import Verb
from sessions_app import bos_v2_schemas as schemas
from sessions_app import services, services_bos, services_components, services_staged
from sessions_app.authentication import UNKNOWN, valid_token
from sessions_app.bos import (
    BosView,
    Problem,
    answer,
    check,
    not_found,
    nothing,
    storable,
)
from sessions_app.bos_v2_documents import component_documents, document_of, with_relations
from sessions_app.bos_v2_parameters import (
    COMPONENT_ID,
    COMPONENTS_QUERY,
    PAGE_SIZE,
    V2View,
    query_flag,
    query_number,
)
from sessions_app.counts import chunks
from sessions_app.models import BootToken, Node
from sessions_app.states import LastAction

COMPONENT = "Component"
BUSY = "BOS is currently changing the state of the node, and the actual state can not be accurately recorded"
READ_AT_ONCE = 1000


class ComponentsBase(V2View):
    """What of the inventory a request may see."""

    def visible(self) -> QuerySet[Node]:
        """Nodes of the tenant, or all that the user may see."""
        nodes: QuerySet[Node] = Node.objects.all().visible_to(self.request.user)
        return nodes.filter(domain=self.tenant()) if self.named_tenant else nodes

    def named(self, name: str) -> Node:
        """One of them. Raises Problem 404."""
        if storable(name):
            found = with_relations(self.visible().filter(name=name.lower())).first()
            if found is not None:
                return found
        raise not_found(COMPONENT, name)


class ComponentsView(ComponentsBase):
    """GET, PUT, PATCH /v2/components"""

    def get(self, request: Request) -> HttpResponse:
        """Components by id; all filters must match. A page is `page_size` long and begins after
        `start_after_id`."""
        query = request.GET
        self.check_query(COMPONENTS_QUERY)
        nodes = self.visible().order_by("name")
        if "ids" in query:
            nodes = nodes.filter(name__in=[name.strip().lower() for name in query["ids"].split(",")])
        for parameter, lookup in (("session", "session__name"), ("staged_session", "staged_session__name")):
            if parameter in query:
                nodes = nodes.filter(**{lookup: query[parameter]})
        if query.get("start_after_id"):
            nodes = nodes.filter(name__gt=_storable(query["start_after_id"]).lower())
        enabled = query_flag(query, "enabled")
        if enabled is not None:
            nodes = nodes.filter(enabled=enabled)
        phase, status = query.get("phase", ""), query.get("status", "")
        wanted = set(status.split(",")) if status else set()
        size = query_number(query, "page_size", PAGE_SIZE)
        return answer(self._page(with_relations(nodes, many=True), size, phase, wanted))

    @staticmethod
    def _page(nodes: QuerySet[Node], size: int, phase: str, status: set[str]) -> list[dict[str, Any]]:
        """Up to `size` documents (0: all). Phase and status are computed, so they are looked at here."""
        if not phase and not status:
            return component_documents(nodes[:size] if size else nodes)
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            part = list(nodes.filter(name__gt=after)[:READ_AT_ONCE])
            for document in component_documents(part):
                said = document["status"]
                if phase in {"", said["phase"]} and (not status or said["status"] in status):
                    found.append(document)
            if len(part) < READ_AT_ONCE or (size and len(found) >= size):
                return found[:size] if size else found
            after = part[-1].name

    def put(self, request: Request) -> HttpResponse:
        """Create or replace components."""
        body = self.body(schemas.COMPONENTS_PUT)
        documents = {item["id"]: item for item in body}
        return answer(self._put(documents))

    def _put(self, documents: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        domain = self.tenant(must_exist=True)
        return _in_order(
            services_components.put_components(documents=documents, domain=domain, actor=self.request.user)
        )

    def patch(self, request: Request) -> HttpResponse:
        """Merge into components: each its own patch (an array), or one patch for all of a filter."""
        body = self.body()
        skip = query_flag(request.GET, "skip_bad_ids") or False
        if isinstance(body, list):
            check(body, schemas.COMPONENTS_PUT)
            by_name = {item["id"]: item for item in body}
            patches = {pk: by_name[name] for name, pk in self._ids(by_name, skip=skip).items()}
        else:
            if not isinstance(body, dict):
                raise Problem(400, f"{repr(body)[:200]} is not valid under any of the given schemas")
            check(body, schemas.COMPONENTS_BY_FILTER)
            session = body["filters"].get("session")
            if session:
                ids = self.visible().filter(session__name=session).order_by("name")
                patches = dict.fromkeys(ids.values_list("id", flat=True), body["patch"])
            else:
                names = body["filters"]["ids"].split(",")
                patches = dict.fromkeys(self._ids(names, skip=skip).values(), body["patch"])
        if not patches:
            return answer([])
        changed = services_components.patch_components(patches=patches, actor=request.user)
        return answer(_in_order(changed))

    def _ids(self, names: Iterable[str], *, skip: bool) -> dict[str, int]:
        """Node id by name, in order. Raises Problem 404 for an unknown one, unless those are skipped."""
        names = list(dict.fromkeys(names))
        known: dict[str, int] = {}
        for start in range(0, len(names), READ_AT_ONCE):
            part = [name.strip().lower() for name in names[start : start + READ_AT_ONCE] if storable(name)]
            known.update(self.visible().filter(name__in=part).values_list("name", "id"))
        found = {}
        for name in names:
            pk = known.get(name.strip().lower())
            if pk is not None:
                found[name] = pk
            elif not skip:
                raise not_found(COMPONENT, name)
        return found


def _in_order(ids: Iterable[int]) -> list[dict[str, Any]]:
    """Documents of these nodes, in this order."""
    ids = list(ids)
    rows: dict[int, Node] = {}
    for part in chunks(ids):
        rows.update(
            (node.pk, node) for node in with_relations(Node.objects.filter(id__among=part), many=True)
        )
    return component_documents(rows[pk] for pk in ids if pk in rows)


def _storable(text: str) -> str:
    if not storable(text):
        raise Problem(400, "There are characters in the query that no id has")
    return text


class RoleOrReport(BasePermission):
    """A report may come with a node's token only, in the header or in the body; the view looks at it."""

    def has_permission(self, request: Request, view: Any) -> bool:
        from_node = isinstance(request.auth, BootToken) or not request.user.is_authenticated
        return (from_node and reports(request)) or RolePermission().has_permission(request, view)


def reports(request: Request) -> bool:
    """Whether this is a PATCH; busybox's wget can't send one and says so in a header."""
    overridden = request.META.get("HTTP_X_HTTP_METHOD_OVERRIDE", "")
    return request.method == "PATCH" or (request.method == "POST" and overridden == "PATCH")


class ComponentView(ComponentsBase):
    """GET, PUT, PATCH, DELETE /v2/components/{id}"""

    permission_classes = [RoleOrReport]
    in_path: ClassVar[dict[str, Any]] = {"name": COMPONENT_ID}
    verbs: ClassVar[dict[str, str]] = {"DELETE": Verb.ADMIN}  # the node leaves the inventory

    def get(self, request: Request, name: str) -> HttpResponse:
        """One component."""
        return answer(component_documents([self.named(name)])[0])

    def post(self, request: Request, name: str) -> HttpResponse:
        """PATCH by clients that can't."""
        if not reports(request):
            raise MethodNotAllowed(request.method or "")
        return self.patch(request, name)

    def patch(self, request: Request, name: str) -> HttpResponse:
        """Change a component; or, with a node's token, report what the node runs."""
        if isinstance(request.auth, BootToken):
            return self._report(name, self.body(), request.auth)
        if not request.user.is_authenticated:
            return self._report_unnamed(name)
        body = self.body(schemas.COMPONENT_BODY)
        node = self.named(name)
        if "actual_state" in body and not self._may_report(node):
            raise Problem(409, BUSY, title="Actual state can not be updated.")
        services_components.patch_components(patches={node.pk: body}, actor=request.user)
        return answer(_in_order([node.pk])[0])

    @staticmethod
    def _may_report(node: Node) -> bool:
        """Not while the node is on its way down, or before it was switched on."""
        if not node.enabled or node.last_action == LastAction.POWERING_ON:
            return True
        return bool(component_documents([node])[0]["status"]["status"] == "stable")

    def put(self, request: Request, name: str) -> HttpResponse:
        """Create or replace one component; its id is the path's."""
        body = self.body(schemas.COMPONENT_BODY)
        domain = self.tenant(must_exist=True)
        changed = services_components.put_components(
            documents={name: body}, domain=domain, actor=request.user
        )
        return answer(_in_order(changed)[0])

    def delete(self, request: Request, name: str) -> HttpResponse:
        """Forget the node."""
        services_components.delete_component(node=self.named(name), actor=request.user)
        return nothing()

    def _report_unnamed(self, name: str) -> HttpResponse:
        """The body's own token is all the identity there is."""
        try:
            body = self.body()
            token = valid_token(body["actual_state"]["bss_token"])
        except (Problem, LookupError, TypeError, AttributeError):
            token = None
        if token is None:
            raise NotAuthenticated(UNKNOWN)
        return self._report(name, body, token)

    def _report(self, name: str, body: Any, token: BootToken) -> HttpResponse:
        """What a node's token allows: to say that this very node booted with it."""
        check(body, schemas.COMPONENT_BODY)
        named = body.get("id", name)
        if token.node.name != name.lower() or str(named).lower() != token.node.name:
            raise PermissionDenied("This token is another node's.")
        state = body.get("actual_state", {})
        if set(body) - {"id", "actual_state"} or set(state) != {"bss_token"}:
            raise PermissionDenied("With a node's token only actual_state.bss_token can be written.")
        if not token.is_carried_as(state["bss_token"]):
            raise PermissionDenied("The token in the body is not the one in the header.")
        request: Any = self.request._request
        request.recognised_as = f"node {token.node.name}"  # for the audit
        services.report_actual_state(token=token)
        return answer(document_of(token.node_id))


# -- staged sessions, options -----------------------------------------------------------------------


class ApplyStagedView(ComponentsBase):
    """POST /v2/applystaged"""

    def post(self, request: Request) -> HttpResponse:
        """Start what is staged for these nodes."""
        body = self.body(schemas.APPLY_STAGED)
        applied = services_staged.apply_staged(
            names=body.get("xnames", []), nodes=self.visible(), actor=request.user
        )
        return answer({"failed": applied.failed, "ignored": applied.ignored, "succeeded": applied.succeeded})


class OptionsView(BosView):
    """GET, PATCH /v2/options; they hold for all tenants."""

    permission_classes = [SuperadminWrites]

    def get(self, request: Request) -> HttpResponse:
        """All options."""
        return answer(services_bos.all_options())

    def patch(self, request: Request) -> HttpResponse:
        """Change some; unknown names are accepted and dropped, as by the original."""
        body = self.body(schemas.OPTIONS)
        return answer(services_bos.set_options(values=body, actor=request.user))
