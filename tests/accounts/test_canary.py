"""A password goes in and is found nowhere: log, answer, page, event, broker message, dump, traceback."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import redis
from django.apps import apps
from django.db import connection
from django.test import Client

from events_app.models import LifecycleEvent
from sessions_app import steps
from sessions_app.drivers.runner import Pump
from sessions_app.models import Bmc, BootSession, NodePhase
from tests.base import RedisServer, wait_until
from tests.factories import PASSWORD, make_key, make_olga, make_template

pytestmark = pytest.mark.django_db(transaction=True)

CANARY = "c4n4ry/+=passw0rd"
FORMS = {CANARY, quote(CANARY), quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode()}
FORMS |= {base64.b64encode(f"root:{CANARY}".encode()).decode(), json.dumps(CANARY)[1:-1]}
NODE = "x1000c0s0b0n0"


@pytest.fixture
def pump() -> Iterator[Pump]:
    made = Pump()
    yield made
    made.close()


def assert_clean(text: str, where: str) -> None:
    for form in FORMS:
        assert form not in text, f"The password is in {where}."


def everything_stored() -> str:
    """All rows of all tables, as a dump would show them."""
    found = []
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608  (our own table names)
            found.append(str(cursor.fetchall()))
    return "\n".join(found)


def test_a_password_is_found_nowhere(redis_server: RedisServer, pump: Pump, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    olga = make_olga()
    olga.is_staff = olga.is_superuser = True
    olga.save()
    client = Client(headers={"authorization": f"Bearer {make_key(olga).token}"})
    settings = {"username": "root", "password": CANARY, "verify_tls": False}
    answers = [
        client.post("/api/v1/bmcs/", body, content_type="application/json")
        for body in (
            {"name": "b1", "kind": "redfish", "address": "http://127.0.0.1:9", "settings": settings},
            {"name": "b2", "kind": "redfish", "address": "x", "settings": {**settings, "verify_tls": CANARY}},
            {"name": "b3", "kind": "redfish", "address": "x", "settings": {**settings, "usename": "r"}},
            {"name": "b4", "kind": CANARY, "address": "x", "settings": {}},
        )
    ]
    assert [answer.status_code for answer in answers][:3] == [201, 400, 400]
    answers.pop()  # it gives back a kind that is no secret by any declaration
    node = {"name": NODE, "bmc": "b1"}
    answers.append(client.post("/api/v1/nodes/", node, content_type="application/json"))
    make_template([NODE])
    body = {"operation": "reboot", "template_name": "sample"}
    answers.append(client.post("/apis/bos/v2/sessions", body, content_type="application/json"))
    session = BootSession.objects.get()

    broker = redis.Redis.from_url(redis_server.url)
    with broker.monitor() as monitor:
        steps.start_pending()

        def failed() -> bool:
            NodePhase.objects.filter(due_at__isnull=False, claim=None).update(due_at=session.created_at)
            steps.Advance(pump).run()
            session.refresh_from_db()
            return session.status == "complete"

        wait_until(failed, 120, "the end of a session whose BMC does not answer")
        broker.publish("the", "end")
        said = []
        for command in monitor.listen():
            said.append(str(command["command"]))
            if command["command"].startswith("PUBLISH the end"):
                break
    assert any("advance_nodes" in line for line in said), "The broker was listened to in vain."
    assert_clean("\n".join(said), "what was said to Redis")
    assert LifecycleEvent.objects.filter(name="session_terminated").exists()

    for path in (
        "/api/v1/bmcs/", "/api/v1/bmcs/b1/", "/api/v1/nodes/", f"/api/v1/nodes/{NODE}/", "/api/v1/audit/",
        f"/api/v1/sessions/{session.uuid}/errors/", "/apis/bos/v2/components", "/apis/bos/v2/sessions",
        f"/apis/bos/v2/sessions/{session.name}/status", f"/v1/session/{session.uuid}/status/compute",
    ):  # fmt: skip
        answers.append(client.get(path))
        assert answers[-1].status_code == 200, path
    person = Client()
    person.login(username="olga", password=PASSWORD)
    bmc = Bmc.objects.get(name="b1")
    for path in (
        "/overview", "/sessions/", f"/sessions/{session.uuid}/", "/nodes/", f"/nodes/{NODE}/", "/activity/",
        "/admin/sessions_app/bmc/", f"/admin/sessions_app/bmc/{bmc.pk}/change/",
        f"/admin/sessions_app/bmc/{bmc.pk}/history/",
    ):  # fmt: skip
        answers.append(person.get(path))
        assert answers[-1].status_code == 200, path
    for answer in answers:
        text = b"".join(answer) if answer.streaming else answer.content
        assert_clean(text.decode(), answer.request["PATH_INFO"])
    assert_clean(everything_stored(), "the database")
    assert_clean(caplog.text, "the log")
    assert_clean(repr(bmc) + str(bmc) + str(vars(bmc)), "the model's own words")


def test_a_traceback_through_the_secrets_does_not_show_them(settings):
    bmc = Bmc(name="b1", kind="fake")
    bmc.set_secrets({"password": CANARY})
    settings.MUSTER_ENCRYPTION_KEYS = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
    try:
        bmc.secrets()
    except Exception as error:
        assert_clean("".join(traceback.format_exception(error)), "the traceback")
    else:
        raise AssertionError("A wrong key opened the secret.")
