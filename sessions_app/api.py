"""Our own REST API of nodes and sessions, `/api/v1/…`; errors are problem documents."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import django_filters
from django.db.models import Prefetch, Q, QuerySet
from django.http import QueryDict
from django.utils.http import urlencode
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts_app.idempotency import idempotent
from accounts_app.models import ApiKey, User
from accounts_app.permissions import SuperadminWrites
from accounts_app.problems import problem
from accounts_app.states import Verb
from sessions_app import services, services_power
from sessions_app.confirming import TYPED_ABOVE
from sessions_app.models import Bmc, BootSession, Node, NodeGroup, NodePhase
from sessions_app.models.nodes import natural
from sessions_app.nodeset import NodeSetError, fold
from sessions_app.serializers import (
    BmcSerializer,
    ByHandPlanSerializer,
    ByHandSerializer,
    ErrorSerializer,
    GroupSerializer,
    NodePhaseSerializer,
    NodeSerializer,
    PreviewSerializer,
    RetrySerializer,
    SessionSerializer,
    StartSerializer,
)
from sessions_app.states import Reach
from sessions_app.views.picking import FIELDS, ids_of, pick, visible_nodes


class NodeFilter(django_filters.FilterSet):
    """By what nodes are looked for; conditions are joined by and."""

    group = django_filters.CharFilter(field_name="groups__name")
    session = django_filters.CharFilter(field_name="session__name")
    bmc = django_filters.ChoiceFilter(field_name="bmc__reach", choices=Reach.choices)

    class Meta:
        model = Node
        fields = ["role", "subrole", "arch", "power_state", "failed", "enabled", "locked", "hardware_enabled"]


class NodeViewSet(viewsets.ModelViewSet):
    """Nodes of the inventory. PUT creates or replaces, PATCH changes single fields; state is read-only."""

    serializer_class = NodeSerializer
    lookup_field = "name"
    lookup_value_regex = "[A-Za-z0-9._-]+"
    filterset_class = NodeFilter
    verb = Verb.ADMIN

    def get_queryset(self) -> QuerySet[Node]:
        """Those of the user's domain."""
        nodes = Node.objects.visible_to(self.request.user)
        related = ("bmc", "domain", "session", "desired", "actual")
        nodes = nodes.select_related(*related).defer("session__components", "session__limit")
        return nodes.prefetch_related("groups").order_by("name")

    def perform_create(self, serializer: Any) -> None:
        """Through the service; an existing name is refused."""
        if Node.objects.filter(name=serializer.validated_data["name"]).exists():
            raise ValidationError({"name": ["A node of this name exists already."]})
        serializer.instance = services.register_node(**_own_domain(self.request, serializer.validated_data))

    def perform_update(self, serializer: Any) -> None:
        """Through the service; a node keeps its name."""
        node = serializer.instance
        values = dict(serializer.validated_data)
        if values.pop("name", node.name) != node.name:
            raise ValidationError({"name": ["A node keeps its name."]})
        kept = {"bmc": node.bmc, "domain": node.domain, "mac": node.mac or ""} if serializer.partial else {}
        values = _own_domain(self.request, {**kept, **values})
        serializer.instance = services.register_node(name=node.name, **values)

    @extend_schema(request=ByHandSerializer, responses={202: ByHandPlanSerializer, 200: ByHandPlanSerializer})
    @action(detail=False, methods=["post"], filterset_class=None, verb=Verb.OPERATE)
    @idempotent
    def power(self, request: Request) -> Response:
        """Switch nodes by hand, look at them, or light their locate LED: 202 with the background task.

        400 for a node that is not known, or above 100 nodes without count or fingerprint; 409 where a
        session or another action is at work with a node (it is named), or count or fingerprint don't fit any
        more. Then nothing was done. With `dry_run` 200, and nothing is done either.
        """
        serializer = ByHandSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        asked = serializer.validated_data
        action, busy = asked["action"], asked["busy"]
        made = services_power.plan(action=action, ids=_meant(_user(request), asked), busy=busy)
        fingerprint = services_power.digest_of_plan(action, made, busy)
        found = {
            "id": None,
            "action": action,
            "count": len(made.nodes),
            "nodes": fold(made.names),
            "left_out": {reason: fold(names) for reason, names in made.left_out.items()},
            "held": made.held,
            "fingerprint": fingerprint,
            "background_task": None,
        }
        if asked["dry_run"]:
            return Response(ByHandPlanSerializer(found).data)
        if refusal := _unexpected(asked, len(made.nodes), fingerprint):
            return refusal
        try:
            session = services_power.act_by_hand(
                action=action,
                ids=[pk for pk, _ in made.nodes],
                actor=_user(request),
                key=request.auth if isinstance(request.auth, ApiKey) else None,
                network_boot=asked["network_boot"],
                busy=busy,
            )
        except services_power.NodesBusy as error:
            return problem(409, "Conflict", str(error))
        except services.Refused as error:
            return problem(400, "Bad Request", str(error))
        found |= {"id": session.uuid, "background_task": session.background_task_id}
        return Response(ByHandPlanSerializer(found).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=NodePhaseSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def history(self, request: Request, name: str) -> Response:
        """Every phase of every session that this node went through, newest first."""
        rows = NodePhase.objects.filter(node=self.get_object()).select_related("session", "phase", "node")
        rows = rows.defer("session__components", "session__limit")
        page = self.paginate_queryset(rows.order_by("-session_id", "phase__position"))
        return self.get_paginated_response(NodePhaseSerializer(page, many=True).data)


def _meant(user: User, asked: dict[str, Any]) -> list[int]:
    """Ids of the nodes that names, ranges or a filter mean. Raises ValidationError."""
    if "nodes" in asked:
        try:
            selection = visible_nodes(user, ",".join(asked["nodes"]))
        except NodeSetError as error:
            raise ValidationError({"nodes": [str(error)]}) from None
        if selection.unknown:
            raise ValidationError({"nodes": [f"Nothing bears: {', '.join(selection.unknown[:20])}."]})
        return ids_of(user, selection.names)
    unknown = sorted(asked["filter"].keys() - set(FIELDS))
    if unknown:
        raise ValidationError({"filter": [f"Unknown: {', '.join(unknown)}. Known: {', '.join(FIELDS)}."]})
    picked = pick(user, QueryDict(urlencode(asked["filter"])))
    if picked.wrong or picked.unknown:
        said = picked.wrong or f"Nothing bears: {', '.join(picked.unknown[:20])}."
        raise ValidationError({"filter": [said]})
    return [node.id for node in picked.nodes]


def _unexpected(asked: dict[str, Any], count: int, fingerprint: str) -> Response | None:
    """The refusal where the nodes are not those that the caller has in mind."""
    if count > TYPED_ABOVE and "count" not in asked and "fingerprint" not in asked:
        detail = f"This would hit {count:,} nodes: above {TYPED_ABOVE} their count or fingerprint is needed."
        return problem(400, "Bad Request", detail)
    if asked.get("count", count) != count:
        return problem(409, "Conflict", f"{count:,} nodes are meant now, not {asked['count']:,}.")
    if asked.get("fingerprint", fingerprint) != fingerprint:
        return problem(409, "Conflict", "The nodes are others than the dry run named.")
    return None


def _user(request: Request) -> User:
    """Who asks; permission has let nobody unknown in."""
    assert isinstance(request.user, User)  # noqa: S101
    return request.user


def _own_domain(request: Request, values: dict[str, Any]) -> dict[str, Any]:
    """An admin of a domain writes into his own domain only."""
    user = _user(request)
    return values if user.is_superadmin else {**values, "domain": user.domain}


class BmcViewSet(viewsets.ModelViewSet):
    """BMCs. Secrets go in by `settings` and never come out; one that is left out keeps its value."""

    serializer_class = BmcSerializer
    lookup_field = "name"
    lookup_value_regex = "[^/]+"
    filterset_fields = ["kind", "reach"]
    verb = Verb.ADMIN

    def get_queryset(self) -> QuerySet[Bmc]:
        """Those of the user's domain; all for superadmins."""
        return Bmc.objects.visible_to(self.request.user).select_related("domain").order_by("name")

    def perform_create(self, serializer: Any) -> None:
        """Through the service; an existing name is refused."""
        if Bmc.objects.filter(name=serializer.validated_data["name"]).exists():
            raise ValidationError({"name": ["A BMC of this name exists already."]})
        serializer.instance = self._register(serializer.validated_data)

    def perform_update(self, serializer: Any) -> None:
        """Through the service; a BMC keeps its name."""
        bmc = self._own(serializer.instance)
        kept = {"kind": bmc.kind, "address": bmc.address, "domain": bmc.domain}
        values = {**kept, **serializer.validated_data}
        if "settings" not in serializer.validated_data or serializer.partial:
            values["settings"] = {**bmc.settings, **serializer.validated_data.get("settings", {})}
        serializer.instance = self._register({**values, "name": bmc.name})

    def perform_destroy(self, bmc: Bmc) -> None:
        """Not while it switches nodes of others, too."""
        self._own(bmc).delete()

    def _own(self, bmc: Bmc) -> Bmc:
        if not bmc.is_changed_by(_user(self.request)):
            raise PermissionDenied("This BMC switches nodes of other tenants, too, or is in Vault.")
        return bmc

    def _register(self, values: dict[str, Any]) -> Bmc:
        values = _own_domain(self.request, values)
        if values.get("domain") is None and not _user(self.request).is_superadmin:
            raise PermissionDenied("BMCs of no domain are the superadmins'.")
        if values.get("settings", {}).get("vault_path") and not _user(self.request).is_superadmin:
            raise PermissionDenied("Only superadmins name paths in Vault.")
        try:
            return services.register_bmc(**values, actor=self.request.user)
        except services.Refused as error:
            raise ValidationError({"settings": [str(error)]}) from None


class GroupViewSet(viewsets.ModelViewSet):
    """Named sets of nodes; the site's, for templates of all tenants name them. Each sees its own nodes."""

    permission_classes = [SuperadminWrites]
    serializer_class = GroupSerializer
    lookup_field = "name"
    lookup_value_regex = "[^/]+"
    filterset_fields: list[str] = []
    verb = Verb.ADMIN

    def get_queryset(self) -> QuerySet[NodeGroup]:
        """All groups, each with those of its nodes that the user may see."""
        seen = Prefetch("nodes", Node.objects.visible_to(self.request.user))
        return NodeGroup.objects.prefetch_related(seen).order_by("name")


class SessionFilter(django_filters.FilterSet):
    """By what sessions are looked for."""

    template = django_filters.CharFilter(field_name="template_name")

    class Meta:
        model = BootSession
        fields = ["name", "status", "result", "operation", "by_hand"]


class SessionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Sessions, newest first: start, look, cancel, retry; with `?by_hand=true` what people did by hand."""

    serializer_class = SessionSerializer
    lookup_field = "uuid"
    lookup_url_kwarg = "id"
    lookup_value_converter = "uuid"
    filterset_class = SessionFilter

    def get_queryset(self) -> QuerySet[BootSession]:
        """Those of the user's domain."""
        sessions = BootSession.objects.visible_to(self.request.user).select_related("domain", "owner")
        if self.action == "list" and "by_hand" not in self.request.query_params:
            sessions = sessions.filter(by_hand=False)
        return sessions.prefetch_related("boot_sets__phases").order_by("-created_at")

    @extend_schema(request=StartSerializer, responses={201: SessionSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Start a session; it is pending until a worker gives it its nodes. 400 names what is wrong."""
        values = self._start_values(request)
        key = request.auth if isinstance(request.auth, ApiKey) else None
        try:
            session = services.start_session(**values, actor=_user(request), key=key)
        except services.NameTaken as error:
            return problem(409, "Conflict", str(error))
        except services.Refused as error:
            return problem(400, "Bad Request", str(error))
        return Response(SessionSerializer(session).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=StartSerializer, responses=PreviewSerializer)
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Which nodes a session would have and which are left out and why; starts nothing."""
        values = self._start_values(request)
        try:
            chosen = services.preview_session(
                template=values["template"],
                limit=values["limit"],
                include_disabled=values["include_disabled"],
                domain=values["template"].domain,
            )
        except services.Refused as error:
            return problem(400, "Bad Request", str(error))
        sets = {name: fold(node.name for node in nodes) for name, nodes in chosen.boot_sets.items()}
        left_out = {reason: fold(names) for reason, names in chosen.left_out.items()}
        return Response({"count": chosen.count, "boot_sets": sets, "left_out": left_out})

    def _start_values(self, request: Request) -> dict[str, Any]:
        serializer = StartSerializer(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    @extend_schema(request=None, responses=SessionSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, id: Any = None) -> Response:
        """End it now: no action begins after the answer's next few seconds. 409 where it is complete."""
        session = services.cancel_session(session=self.get_object(), actor=request.user)
        return Response(SessionSerializer(session).data)

    @extend_schema(request=RetrySerializer, responses={202: SessionSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, id: Any = None) -> Response:
        """Try its failed nodes again, from the phase in which each failed. 409 where there are none."""
        serializer = RetrySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            services.retry_failed(
                session=self.get_object(), actor=request.user, nodes=serializer.validated_data.get("nodes")
            )
        except services.Refused as error:
            return problem(409, "Conflict", str(error))
        return Response(SessionSerializer(self.get_object()).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=ErrorSerializer(many=True))
    @action(detail=True, filterset_class=None, pagination_class=None)
    def errors(self, request: Request, id: Any = None) -> Response:
        """Every error with all its nodes, whole and folded; most nodes first."""
        rows = NodePhase.objects.of_session(self.get_object().pk).filter(~Q(error=""))
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for error, phase, node in rows.values_list("error", "phase__name", "node__name"):
            found[error, phase].append(node)
        documents = [
            {
                "error": error,
                "phase": phase,
                "count": len(nodes),
                "folded": fold(nodes),
                "nodes": sorted(nodes, key=natural),
            }
            for (error, phase), nodes in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
        return Response(ErrorSerializer(documents, many=True).data)

    @extend_schema(responses=NodePhaseSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def nodes(self, request: Request, id: Any = None) -> Response:
        """Each node in each phase; `?phase=` and `?category=` narrow it."""
        rows = NodePhase.objects.of_session(self.get_object().pk).select_related("node", "session", "phase")
        rows = rows.defer("session__components", "session__limit")  # names of all nodes, for each row
        for name, field in (("phase", "phase__name"), ("category", "category")):
            if request.query_params.get(name):
                rows = rows.filter(**{field: request.query_params[name]})
        page = self.paginate_queryset(rows.order_by("node__name", "phase__position"))
        return self.get_paginated_response(NodePhaseSerializer(page, many=True).data)
