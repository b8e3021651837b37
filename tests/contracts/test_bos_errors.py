"""What BOS says to requests that it does not take: status, title and detail, word for word.

Collected by asking the framework that serves BOS (connexion 2.14) with BOS's two specifications.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.bos import PROBLEM, BosClient, is_problem
from tests.factories import make_olga

pytestmark = pytest.mark.django_db

JSON = "application/json"
UNKNOWN = (
    404,
    "Not Found",
    "The requested URL was not found on the server. If you entered the URL manually please check your"
    " spelling and try again.",
)
METHOD = (405, "Method Not Allowed", "The method is not allowed for the requested URL.")
NAME = "^[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,125}[a-zA-Z0-9])?$"
AGE = "^(0|0[mMhHdDwW]|[1-9][0-9]*[mMhHdDwW])$"
LEVEL = (
    "^([dD][eE][bB][uU][gG]|[iI][nN][fF][oO]|[wW][aA][rR][nN][iI][nN][gG]|[eE][rR][rR][oO][rR]"
    "|[cC][rR][iI][tT][iI][cC][aA][lL])$"
)
LONG = "x" * 130


def bad(detail: str) -> tuple[int, str, str]:
    return 400, "Bad Request", detail


def kind(detail: str) -> tuple[int, str, str]:
    return 415, "Unsupported Media Type", detail


BODIES: list[tuple[str, Any, str, tuple[int, str, str]]] = [
    ("PATCH /v2/options", None, JSON, bad("None is not of type 'object'")),
    ("PUT /v2/components", None, JSON, bad("None is not of type 'array'")),
    ("PATCH /v2/components", None, JSON, bad("None is not valid under any of the given schemas")),
    ("POST /v2/sessions", b"{", JSON, bad("Request body is not valid JSON")),
    ("POST /v2/sessions", b"null", JSON, bad("Request body is not valid JSON")),
    ("POST /v2/sessions", b"{", "application/merge-patch+json", bad("Request body is not valid JSON")),
    # What no database stores, however it is written.
    *(
        ("PUT /v2/sessiontemplates/a", text, JSON, bad("Request body is not valid JSON"))
        for text in (
            b'{"boot_sets": {"c": {"path": "s3://a\\u0000"}}}',
            '{"boot_sets": {"c": {"path": "s3://a\\u0000"}}}'.encode("utf-16"),
            b'{"boot_sets": {"c": {"path": "s3://a\xed\xa0\x80"}}}',
            b'{"boot_sets": {"c": {"path": 1e400}}}',
        )
    ),
    (
        "POST /v2/sessions",
        b"{}",
        "text/plain; charset=utf-8",
        kind("Invalid Content-type (text/plain; charset=utf-8), expected JSON data"),
    ),
    ("POST /v2/sessions", {"nosuch": 1}, JSON, bad("'operation' is a required property")),
    (
        "PUT /v2/sessiontemplates/a",
        {"nosuch": 1},
        JSON,
        bad("Additional properties are not allowed ('nosuch' was unexpected)"),
    ),
    # A body is looked at before what it is for.
    ("PATCH /v2/sessions/nosuch", {"components": 5}, JSON, bad("5 is not of type 'string' - 'components'")),
    ("PATCH /v2/sessiontemplates/nosuch", [], JSON, bad("[] is not of type 'object'")),
    (
        "POST /v2/sessions",
        {"operation": "boot", "template_name": "-x"},
        JSON,
        bad(f"'-x' does not match '{NAME}' - 'template_name'"),
    ),
    (
        "PATCH /v2/options",
        {"cleanup_completed_session_ttl": "x"},
        JSON,
        bad(f"'x' does not match '{AGE}' - 'cleanup_completed_session_ttl'"),
    ),
    (
        "PATCH /v2/options",
        {"logging_level": "LOUD"},
        JSON,
        bad(f"'LOUD' does not match '{LEVEL}' - 'logging_level'"),
    ),
]
PLACES: list[tuple[str, tuple[int, str, str]]] = [
    ("GET /v2/nosuch", UNKNOWN),
    ("GET /v2/sessions/", UNKNOWN),
    ("POST /v2/options", METHOD),
    ("PUT /v2/sessions/a", METHOD),
    ("GET /v2/sessions/-a", bad(f"'-a' does not match '{NAME}'")),
    ("GET /v2/sessions/bad%20name/status", bad(f"'bad name' does not match '{NAME}'")),
    (f"DELETE /v2/sessions/{LONG}", bad(f"'{LONG}' is too long")),
    (f"GET /v2/components/{LONG}", bad(f"'{LONG}' is too long")),
    ("GET /v2/sessiontemplatesvalid/-a", bad(f"'-a' does not match '{NAME}'")),
    ("GET /v2/sessions?min_age=", bad(f"'' does not match '{AGE}'")),
    ("GET /v2/sessions?max_age=05d", bad(f"'05d' does not match '{AGE}'")),
    ("DELETE /v2/sessions?status=x", bad("'x' is not one of ['pending', 'running', 'complete']")),
    ("GET /v2/sessions?status=", bad("'' is not one of ['pending', 'running', 'complete']")),
    ("GET /v2/components?ids=", bad("'' should be non-empty")),
    ("GET /v2/components?session=", bad("'' should be non-empty")),
    ("GET /v2/components?start_after_id=", bad("'' should be non-empty")),
    ("GET /v2/components?staged_session=-", bad(f"'-' does not match '{NAME}'")),
    (
        "GET /v2/components?phase=x",
        bad("'x' is not one of ['configuring', 'powering_off', 'powering_on', '']"),
    ),
    ("GET /v2/components?page_size=-1", bad("-1 is less than the minimum of 0")),
    ("GET /v2/components?page_size=99999999", bad("99999999 is greater than the maximum of 1048576")),
    ("GET /v2/components?page_size=x", bad("Wrong type, expected 'integer' for query parameter 'page_size'")),
    ("GET /v2/components?enabled=1", bad("Wrong type, expected 'boolean' for query parameter 'enabled'")),
]


@pytest.fixture
def bos() -> BosClient:
    return BosClient(make_olga())


@pytest.mark.parametrize(("where", "body", "content_type", "wanted"), BODIES)
def test_a_bad_body_is_refused_in_the_originals_words(bos, where, body, content_type, wanted):
    method, path = where.split(" ")
    is_problem(bos.ask(method, f"/apis/bos{path}", body, content_type=content_type), *wanted)


@pytest.mark.parametrize(("where", "wanted"), PLACES, ids=[where[:60] for where, _ in PLACES])
def test_a_bad_path_or_parameter_is_refused_in_the_originals_words(bos, where, wanted):
    method, path = where.split(" ")
    is_problem(bos.ask(method, f"/apis/bos{path}"), *wanted)


def test_a_tenants_name_has_a_longest(bos):
    answer = bos.ask("GET", "/v2/sessions", Cray_Tenant_Name=LONG)
    is_problem(answer, 400, "Bad Request", f"'{LONG}' is too long")


def test_a_line_break_is_no_end_of_a_name(bos):
    body = {"operation": "boot", "template_name": "a\n"}
    assert bos.ask("POST", "/v2/sessions", body).json()["detail"].startswith("'a\\n' does not match")


def test_options_of_a_door_are_its_methods(bos):
    answer = bos.ask("OPTIONS", "/v2/options")
    assert (answer.status_code, answer.content) == (200, b"")
    assert set(answer["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "PATCH"}
    assert answer["Content-Type"] != PROBLEM
