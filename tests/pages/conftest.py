"""The cast signed in, and rows for them to look at."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.pages import rows


@pytest.fixture
def people(db: Any) -> dict[str, Any]:
    return rows.cast()


@pytest.fixture
def olga(people: dict[str, Any]) -> Client:
    return _signed_in(people["olga"])


@pytest.fixture
def victor(people: dict[str, Any]) -> Client:
    return _signed_in(people["victor"])


@pytest.fixture
def nora(people: dict[str, Any]) -> Client:
    return _signed_in(people["nora"])


@pytest.fixture
def ada(people: dict[str, Any]) -> Client:
    return _signed_in(people["ada"])


@pytest.fixture
def session(people: dict[str, Any]) -> Any:
    return rows.small(people["olga"])


def _signed_in(user: Any) -> Client:
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client
