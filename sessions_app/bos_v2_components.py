"""BOS v2: components, options, staged sessions (contracts, BOS 2.4, 2.5, 4.1)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.exceptions import MethodNotAllowed, NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts_app.permissions import RolePermission
from sessions_app import bos_v2_schemas as schemas
from sessions_app import services
from sessions_app.authentication import UNKNOWN, valid_token
from sessions_app.bos import BosView, Problem, answer, check, not_found, storable
from sessions_app.bos_v2_documents import component_documents, with_relations
from sessions_app.models import BootToken, Node

COMPONENT = "Component"


class ComponentsBase(BosView):
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
        """Components by id."""
        return answer(component_documents(with_relations(self.visible().order_by("name"))))


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
        self.named(name)
        raise Problem(400, f"{sorted(body)} can't be changed here")

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
        request._request.recognised_as = f"node {token.node.name}"  # for the audit
        services.report_actual_state(token=token)
        node = with_relations(Node.objects.filter(pk=token.node_id)).get()
        return answer(component_documents([node])[0])
