"""Filters of lists that refuse what they do not know."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

PAGING = frozenset({"limit", "offset", "format"})


class StrictFilter(DjangoFilterBackend):
    """A mistyped filter would answer with the whole list, and somebody would act on it."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """Narrow the list; 400 names a parameter that is no filter of it."""
        filters = self.get_filterset_class(view, queryset)
        of_list = view.action == "list" or getattr(view, "detail", None) is False  # exports, too
        if filters is not None and of_list:
            unknown = sorted(set(request.query_params) - set(filters.base_filters) - PAGING)
            if unknown:
                raise ValidationError({name: ["There is no such filter."] for name in unknown})
        return super().filter_queryset(request, queryset, view)
