"""`id__among=ids`: as `id__in`, for thousands of ids.

They go as one parameter. Django spends more time on a parameter for each, and PostgreSQL on reading them,
than the statement takes.
"""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import BigAutoField, ForeignKey, Lookup


class Among(Lookup):
    """Whether an integer is one of a collection of integers; no subquery, no null."""

    lookup_name = "among"
    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Nothing is among none: Django then asks nothing."""
        ids = list(map(int, self.rhs))
        if not ids:
            raise EmptyResultSet
        left, params = self.process_lhs(compiler, connection)
        text = json.dumps(ids)
        if connection.vendor == "postgresql":
            return f"{left} = ANY(%s::bigint[])", (*params, f"{{{text[1:-1]}}}")
        return left + " IN (SELECT value FROM json_each(%s))", (*params, text)  # noqa: S608  (of a column)


BigAutoField.register_lookup(Among)
ForeignKey.register_lookup(Among)
