"""Chains of requests by each role at every described door: no 5xx, nothing outside the schema, and never a
word of another tenant's.

A chain follows what answers name (a node that was made, a session that was listed). After each step that
names something, the same is asked of another tenant's thing. MUSTER_FUZZ_CHAINS=N draws N times as many
chains, other ones each time.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import unquote

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from django.test import override_settings
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from accounts_app.states import Role
from sessions_app.models import NodeGroup
from tests.accounts.matrix import TABLE, Way
from tests.accounts.world import make_things
from tests.contracts import test_bos_fuzz as bos
from tests.factories import make_domain, make_key, make_user
from workflows_app.drivers.fake import FakeRuntime

pytestmark = pytest.mark.django_db

OWN, FOREIGN = "tenant-a", "canary-b"
CHAINS = int(os.environ.get("MUSTER_FUZZ_CHAINS", "0"))
STEPS = 15
ROLES = [Role.VIEWER, Role.USER, Role.SUPERADMIN]
# A refusal by the framework is described in prose, once for all (docs/compatibility.md).
ALWAYS = {400, 401, 403, 404, 405, 409, 413, 415}


@cache
def document(name: str) -> dict[str, Any]:
    """A description of doors; `ours` is what /api/schema/ answers."""
    if name == "ours":
        found = json.loads(json.dumps(SchemaGenerator().get_schema(public=True), default=str))
        # Streams never end; the run of a workflow is its service's answer.
        paths = {path: ways for path, ways in found["paths"].items() if "stream" not in path}
        return {**found, "paths": paths}
    if name == "cts":
        return json.loads((bos.SPECS / "cts.json").read_text())
    return bos.document(name.removeprefix("bos-"))


@pytest.fixture
def world(redis_server: Any) -> Iterator[dict[str, dict[str, str]]]:
    """What is called how, by tenant."""
    FakeRuntime.forget_all()
    things = {OWN: make_things(OWN, 1000), FOREIGN: make_things(FOREIGN, 2000)}
    # Groups are the site's.
    NodeGroup.objects.filter(name=things[FOREIGN].pop("group")).update(name="everybodys")
    yield things
    FakeRuntime.forget_all()


def shape(path: str) -> str:
    """`/v2/sessions/{}` of both ways to write a placeholder."""
    return re.sub(r"<[^>]+>|\{[^}]+\}", "{}", path.partition("?")[0])


PLACES = {shape(path.path): path for path in TABLE}


def table_way(operation: Any) -> tuple[Way | None, list[str]]:
    """What the table says of an operation, and the placeholders of its path there."""
    path = PLACES.get(shape(operation.full_path if hasattr(operation, "full_path") else operation.path))
    if path is None:  # the table writes names of what is the site's as they are, such as a runtime's
        return None, []
    return path.ways.get(operation.method.upper()), re.findall(r"<([^>]+)>", path.path)


@cache
def chains(name: str) -> Any:
    """What can follow what, by one description."""
    schema = schemathesis.openapi.from_dict(document(name))
    schema.app = bos.APP
    return schema.as_state_machine()


def machine(name: str, role: str, headers: dict[str, str], foreign: dict[str, str]) -> Any:
    """The state machine of one description and one person."""
    # A run's name is a number, which is in many answers.
    secrets = {key: value for key, value in foreign.items() if key != "run"}
    everywhere = role == Role.SUPERADMIN

    class Chain(chains(name)):  # type: ignore[misc]
        def setup(self) -> None:
            self._inside = transaction.atomic()
            self._inside.__enter__()

        def teardown(self) -> None:
            transaction.set_rollback(True)
            self._inside.__exit__(None, None, None)

        asked = 0

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            for tenant in ("Cray-Tenant-Name", "X-API-KEY", "Authorization"):
                case.headers.pop(tenant, None)
            return {"headers": headers}

        def validate_response(self, response: Any, case: Any, *args: Any, **kwargs: Any) -> None:
            Chain.asked += 1
            check(name, response, case, {} if everywhere else secrets)
            if case.path_parameters and not everywhere:
                self.ask_for_foreign(case)

        def ask_for_foreign(self, case: Any) -> None:
            way, placeholders = table_way(case.operation)
            if way is None or not set(placeholders) <= set(foreign):
                return
            names = ordered(case.operation.path, list(case.path_parameters))
            values = [foreign[placeholder] for placeholder in placeholders]
            other = case.operation.Case(
                path_parameters={**case.path_parameters, **dict(zip(names, values, strict=False))},
                query=case.query,
                body=case.body,
                media_type=case.media_type,
            )
            with transaction.atomic():
                answer = other.call(**self.get_call_kwargs(other))
                # A PUT makes one's own thing of that name, which the next step must not find.
                transaction.set_rollback(True)
            check(name, answer, other, secrets)
            allowed = {400, 401, 403, 404, 405, 415, way.foreign}
            assert answer.status_code in allowed, (other.as_curl_command(), answer.status_code, answer.text)

    return Chain


def ordered(path: str, names: list[str]) -> list[str]:
    """Path parameters in the order of the path."""
    return sorted(names, key=lambda name: path.index("{" + name + "}"))


def check(name: str, response: Any, case: Any, secrets: dict[str, str]) -> None:
    """No 5xx, as described, and nothing of another tenant's but what was asked for by name."""
    said = (case.as_curl_command(), response.status_code, response.text[:2000])
    assert response.status_code < 500, said
    asked = unquote(case.formatted_path) + json.dumps(case.query, default=str) + repr(case.body)
    told = response.text + json.dumps(dict(response.headers), default=str)
    found = {key: value for key, value in secrets.items() if value in told and value not in asked}
    assert not found, (found, *said)
    v1 = name == "bos-v1"
    described = {int(code) for code in case.operation.definition.raw["responses"] if code.isdigit()}
    if v1 and (response.status_code >= 400 or (case.method.lower(), response.status_code) in bos.V1_DIFFERS):
        return
    if name.startswith("bos") and (case.operation.method, case.operation.path) in bos.DIFFERENT_DOCUMENTS:
        return
    checks = [not_a_server_error]
    if (case.operation.path, response.status_code) == ("/v2/components/{component_id}", 409):
        return  # the original's title is another one than its specification's
    if response.status_code in described or "default" in case.operation.definition.raw["responses"]:
        checks += [status_code_conformance, response_schema_conformance]
    else:
        assert response.status_code in ALWAYS, said
    case.validate_response(response, checks=checks)


@pytest.mark.parametrize("name", ["ours", "bos-v2", "bos-v1", "cts"])
def test_chains_of_requests(name, world, monkeypatch):
    monkeypatch.setattr("tasks_app.services.wait_for_run", lambda run: run)  # no worker runs here
    asked = 0
    chosen = settings(
        max_examples=3 if name == "ours" else 2,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    # As Django's own test client: the test's transaction must outlive its requests.
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    try:
        with override_settings(ALLOWED_HOSTS=["*"]):
            for role in ROLES:
                user = make_user(role, role, None if role == Role.SUPERADMIN else make_domain(OWN))
                headers = {"Authorization": f"Bearer {make_key(user).token}"}
                for number in range(2 * max(CHAINS, 1)):
                    chain = machine(name, role, headers, world[FOREIGN])
                    # Answers hold times and new ids, so a chain can't be drawn twice alike: then the next.
                    with suppress(FlakyStrategyDefinition):
                        seed(random.randrange(2**32) if CHAINS else number)(chain).run(settings=chosen)
                    asked += chain.asked
    finally:
        request_started.connect(close_old_connections)
        request_finished.connect(close_old_connections)
    assert asked >= 2 * STEPS
