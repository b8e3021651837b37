"""Every operation of both specifications with generated requests: no 5xx, no document outside its schema.

The specifications in `specs/` are HPE's (MIT), without their prose; bos-v1.json has v1's paths only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance

from sessions_app.models import BootSession
from sessions_app.states import Category
from tests.contracts.bos import begin, move
from tests.factories import make_key, make_nodes, make_olga, make_template

pytestmark = pytest.mark.django_db

SPECS = Path(__file__).parent / "specs"
EXAMPLES = 10  # of each operation: half meant to be right, half meant to be wrong
# Answers to requests that the specifications have no answer for.
ALWAYS = {400, 404, 405, 409, 413, 415}
# v1's own errors are no problem documents (contracts, BOS 1.1), and v1's writes to a boot set's status
# answer 200 and 204 where its specification says 201 and 200 (contracts, BOS 1.4).
V1_DIFFERS = {("post", 200), ("patch", 204)}


# The original's answers, and so ours, are not as its specification says: times have no zone (contracts, BOS
# 2.1), the link to a status is a path, and values of a deleted status are "" (contracts, BOS 1.3).
DIFFERENT_FORMATS = (("V2ComponentLastUpdated", "format"), ("V1SessionStatusUri", "format"))
# The specification promises the session here, the original answers the status (contracts, BOS 3).
# The other promises exactly one of two alternatives, both of which fit every document.
DIFFERENT_DOCUMENTS = {("post", "/v2/sessions/{session_id}/status"), ("get", "/v1/session/{session_id}")}

APP = WSGIHandler()


def document(version: str) -> dict[str, Any]:
    """A specification, but for the formats in which the original's answers differ from it."""
    found = json.loads((SPECS / f"bos-{version}.json").read_text())
    for name, field in DIFFERENT_FORMATS:
        found["components"]["schemas"].get(name, {}).pop(field, None)
    return found


def operations(version: str) -> list[Any]:
    schema = schemathesis.openapi.from_dict(document(version))
    schema.app = APP
    found = [result.ok() for result in schema.get_all_operations()]
    return [pytest.param(operation, id=f"{operation.method} {operation.path}") for operation in found]


def known_names(session: BootSession) -> dict[str, str]:
    """Values of path parameters that lead somewhere."""
    v1 = {"boot_set_name": "compute", "phase_name": "shutdown", "category_name": "failed"}
    return {"session_template_id": "t", "component_id": "x1000c0s0b0n0", "session_id": "s", **v1}


def fuzz(operation: Any, version: str) -> None:
    session = begin(make_template(make_nodes(3), name="t"), name="s")
    move(session, "shutdown", "x1000c0s0b0n0", to=Category.FAILED, error="no")
    token = make_key(make_olga()).token
    names = known_names(session)
    if version == "v1":
        names["session_id"] = str(session.uuid)
    documented = {int(code) for code in operation.definition.raw["responses"]}
    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    cases = st.one_of(right, wrong) if _can_be_wrong(operation) else right

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, known=st.booleans())
    def ask(case: Any, known: bool) -> None:
        if known:
            case.path_parameters.update({key: names[key] for key in case.path_parameters if key in names})
        case.headers.pop("Cray-Tenant-Name", None)
        response = case.call(headers={"Authorization": f"Bearer {token}"})
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        case.validate_response(response, checks=[not_a_server_error])
        differs = version == "v1" and (
            response.status_code >= 400 or (case.method.lower(), response.status_code) in V1_DIFFERS
        )
        assert response.status_code in documented | ALWAYS or differs, (case.as_curl_command(), response.text)
        other = (operation.method, operation.path) in DIFFERENT_DOCUMENTS and response.status_code == 200
        if response.status_code in documented and not differs and not other:
            case.validate_response(response, checks=[response_schema_conformance])

    # As Django's own test client: the test's transaction must outlive its requests.
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    try:
        with override_settings(ALLOWED_HOSTS=["*"]):
            ask()
    finally:
        request_started.connect(close_old_connections)
        request_finished.connect(close_old_connections)


def _can_be_wrong(operation: Any) -> bool:
    return bool(operation.body or operation.query or operation.path_parameters)


@pytest.mark.parametrize("operation", operations("v2"))
def test_v2(operation):
    fuzz(operation, "v2")


@pytest.mark.parametrize("operation", operations("v1"))
def test_v1(operation):
    fuzz(operation, "v1")
