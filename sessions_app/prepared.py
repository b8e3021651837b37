"""Querysets whose SQL is written once per process: for the few reads that are asked again and again.

Django writes a queryset's SQL anew each time. For the status of a session, which a person's `watch` and
every browser ask for, that took several times as long as the database needed for the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet


class Prepared:
    """`rows(session=7)` reads what `build(session=7)` would: tuples of a `values_list` queryset.

    `kinds` names the values that change: int, str or UUID each. They must reach the SQL as parameters:
    a null or a list makes other SQL and needs a Prepared of its own.
    """

    def __init__(self, build: Callable[..., QuerySet[Any, Any]], **kinds: type) -> None:
        self._build = build
        self._marks = {name: _mark(kind, place) for place, (name, kind) in enumerate(kinds.items())}
        self._statements: dict[str, tuple[str, list[Any], list[Any]]] = {}

    def rows(self, **values: Any) -> list[tuple[Any, ...]]:
        """All rows, converted as Django converts them."""
        sql, parameters, converters = self._statement()
        given = [_sent(values[part.name]) if isinstance(part, _Place) else part for part in parameters]
        with connection.cursor() as cursor:
            cursor.execute(sql, given)
            found = cursor.fetchall()
        for place, functions, expression in converters:
            found = [
                (*row[:place], _converted(row[place], functions, expression), *row[place + 1 :])
                for row in found
            ]
        return found

    def _statement(self) -> tuple[str, list[Any], list[Any]]:
        ready = self._statements.get(connection.vendor)
        if ready is None:
            compiler = self._build(**self._marks).query.get_compiler(connection=connection)
            sql, parameters = compiler.as_sql()
            names = {_sent(mark): name for name, mark in self._marks.items()}
            places = [_Place(names[part]) if part in names else part for part in parameters]
            assert len({part.name for part in places if isinstance(part, _Place)}) == len(names)  # noqa: S101
            columns = [column[0] for column in compiler.select]
            converters = [(place, *how) for place, how in compiler.get_converters(columns).items()]
            ready = self._statements[connection.vendor] = (sql, places, converters)
        return ready


class _Place:
    """Where a value that changes stands among the parameters."""

    def __init__(self, name: str) -> None:
        self.name = name


def _mark(kind: type, place: int) -> Any:
    """A value of this kind that no queryset has of its own."""
    number = 7_418_529_630 + place
    return {int: number, str: f"\x02{place}", UUID: UUID(int=number)}[kind]


def _sent(value: Any) -> Any:
    """As the database takes it."""
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    return value


def _converted(value: Any, functions: list[Any], expression: Any) -> Any:
    for function in functions:
        value = function(value, expression, connection)
    return value
