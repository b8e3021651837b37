"""Keys and audit, `/api/v1/…`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts_app import services
from accounts_app.idempotency import idempotent
from accounts_app.models import ApiKey, AuditEntry, Grant, User
from accounts_app.permissions import may
from accounts_app.serializers import (
    AuditSerializer,
    IssuedSerializer,
    IssueSerializer,
    KeySerializer,
    MeSerializer,
)
from accounts_app.states import Verb


class MeView(APIView):
    """GET /api/v1/me"""

    @extend_schema(responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who asks, by role and by the key's scope."""
        user: Any = request.user
        grant = request.auth if isinstance(request.auth, Grant) else None
        return Response(
            {
                "username": user.username,
                "role": user.role,
                "domain": user.domain.name if user.domain else None,
                "projects": sorted(user.groups.values_list("name", flat=True)),
                "verbs": [verb for verb in Verb.values if may(user, verb, grant)],
                "areas": grant.areas if grant else [],
                "access_key": grant.access_key if isinstance(grant, ApiKey) else None,
            }
        )


class KeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """One's own keys; those of his domain's users for an admin, all for a superadmin."""

    serializer_class = KeySerializer
    lookup_field = "access_key"
    lookup_value_regex = "[A-Z0-9]+"
    filterset_fields = ["scope", "user__username"]
    verb = Verb.READ  # a viewer has keys, too: what they may do, his role bounds

    def get_queryset(self) -> QuerySet[ApiKey]:
        """Newest first."""
        users = User.objects.administered_by(self.request.user)
        return ApiKey.objects.filter(user__in=users).select_related("user").order_by("-id")

    @extend_schema(request=IssueSerializer, responses={201: IssuedSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Issue a key. Its secret is in this answer and nowhere else. A key can't issue one that may do more
        or lasts longer."""
        serializer = IssueSerializer(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        values = serializer.validated_data
        self._bounded(request, values["scope"], values["areas"], values["expires_at"])
        user: Any = values.pop("user") or request.user
        issued = services.issue_key(user=user, actor=request.user, **values)
        return self._shown(issued)

    def destroy(self, request: Request, access_key: str) -> Response:
        """Revoke it, from now on and for good; repeating changes nothing."""
        services.revoke_key(key=self.get_object(), actor=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses={201: IssuedSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def rotate(self, request: Request, access_key: str) -> Response:
        """A new key like this one; this one is revoked."""
        key = self.get_object()
        self._bounded(request, key.scope, key.areas, key.expires_at)
        return self._shown(services.rotate_key(key=key, actor=request.user))

    def _bounded(self, request: Request, scope: str, areas: Collection[str], until: datetime | None) -> None:
        grant = request.auth
        if isinstance(grant, Grant) and not grant.covers(scope=scope, areas=areas, expires_at=until):
            raise PermissionDenied("A key can't issue a key that may do more than itself, or for longer.")

    def _shown(self, issued: services.IssuedKey) -> Response:
        body = {**KeySerializer(issued.key).data, "secret_key": issued.secret_key, "token": issued.token}
        return Response(body, status=status.HTTP_201_CREATED)


class AuditFilter(django_filters.FilterSet):
    """By what audit rows are looked for."""

    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt")
    target = django_filters.CharFilter(lookup_expr="icontains")
    q = django_filters.CharFilter(method="filter_words", help_text="In user name, path or target.")

    class Meta:
        model = AuditEntry
        fields = ["username", "access_key", "door", "method", "status", "request_id", "address"]

    def filter_words(self, rows: QuerySet[AuditEntry], name: str, words: str) -> QuerySet[AuditEntry]:
        """As the page does."""
        return rows.filter(AuditEntry.holding(words))


class AuditViewSet(mixins.ListModelMixin, viewsets.GenericViewSet):
    """Who did what, newest first; refused requests too."""

    serializer_class = AuditSerializer
    filterset_class = AuditFilter

    def get_queryset(self) -> QuerySet[AuditEntry]:
        """One's own; his domain's for an admin; all for a superadmin."""
        return AuditEntry.objects.visible_to(self.request.user).order_by("-id")

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    @action(detail=False, url_path="export.csv", url_name="export")
    def export(self, request: Request) -> StreamingHttpResponse:
        """All rows that the filters leave, as CSV."""
        return self._file(_csv, "text/csv", "audit.csv")

    @extend_schema(responses={(200, "application/jsonl"): OpenApiTypes.STR})
    @action(detail=False, url_path="export.jsonl", url_name="export-json")
    def export_json(self, request: Request) -> StreamingHttpResponse:
        """All rows that the filters leave, one JSON object a line."""
        return self._file(_json_lines, "application/jsonl", "audit.jsonl")

    def _file(self, write: Callable[..., Iterator[str]], kind: str, name: str) -> StreamingHttpResponse:
        rows = self.filter_queryset(self.get_queryset())
        answer = StreamingHttpResponse(write(rows), content_type=f"{kind}; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer


class _Line:
    """What csv writes to; gives back the line."""

    def write(self, line: str) -> str:
        return line


def _csv(rows: QuerySet[AuditEntry]) -> Iterator[str]:
    fields = AuditSerializer.Meta.fields
    writer = csv.writer(_Line())
    yield writer.writerow(fields)
    for row in rows.values_list(*fields).iterator(chunk_size=1000):
        yield writer.writerow([_harmless(value) for value in row])


def _json_lines(rows: QuerySet[AuditEntry]) -> Iterator[str]:
    for row in rows.iterator(chunk_size=1000):
        yield json.dumps(row.as_document()) + "\n"


def _harmless(value: Any) -> str:
    """A spreadsheet takes what begins with one of these for a formula."""
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
