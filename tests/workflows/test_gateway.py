"""Using a workflow: SYNC through the gateway, ASYNC through the queue."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from events_app.models import BackgroundTask, InvalidTransition
from tests.base import wait_until
from tests.workflows.conftest import service, status_of
from workflows_app import services, steps
from workflows_app.gateway.delivery import claim_due, finish, put_back
from workflows_app.gateway.forwarding import Answer
from workflows_app.gateway.server import GatewayServer
from workflows_app.models import Deployment, Gateway, Replica, Run
from workflows_app.states import RunStatus

pytestmark = pytest.mark.django_db(transaction=True)


class Backend:
    """A service's instance: a real HTTP server whose behaviour a test sets."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: tuple[int, bytes] = (200, b'{"ok": true}')
        self.hold = threading.Event()
        self.hold.set()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                backend.requests.append((self.command, self.path, dict(self.headers), body))
                backend.hold.wait(30)
                status, content = backend.answer
                if status == 0:  # break off without an answer
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("X-From", "backend")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    server = Backend()
    yield server
    server.close()


class RunningGateway:
    """The gateway in a thread with a loop of its own."""

    def __init__(self) -> None:
        self.begin(_free_port())
        wait_until(lambda: Gateway.objects.at_work().exists(), what="the gateway")

    def begin(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.url = f"http://127.0.0.1:{port}"
        self.server = GatewayServer(host="127.0.0.1", port=port, url=self.url, name="test")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.server.run(self._stop))

    def knows(self, workflow_id: str, usable: bool = True) -> None:
        """Wait until it has seen the workflow as it is now."""

        def seen() -> bool:
            route = self.server.routes.by_workflow.get(workflow_id)
            return route is not None and route.usable is usable and (not usable or bool(route.addresses))

        wait_until(seen, what="the route")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def running(transactional_db) -> Iterator[RunningGateway]:
    world = RunningGateway()
    yield world
    world.stop()
    connections.close_all()


def publish(workflow, actor) -> None:
    services.publish_workflow(workflow=workflow, actor=actor)
    steps.reconcile()


def run_path(workflow) -> str:
    return f"/api/v1/runtime/workflow/{workflow.pk}/action/run"


def post(client, workflow, key, body=b"text", **more) -> Any:
    return client.post(run_path(workflow), body, content_type="text/plain", **key, **more)


# -- SYNC ---------------------------------------------------------------------------------------------


def test_a_request_reaches_the_entry_service_and_its_answer_comes_back(
    client, make_workflow, olga, key, backend, running
):
    workflow = make_workflow(service(port=backend.port), entry_path="/work?x=1")
    publish(workflow, olga)
    running.knows(workflow.pk)
    answer = post(client, workflow, key, b"some text", HTTP_X_TRACE="42")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert answer["X-From"] == "backend"
    ((method, path, headers, body),) = backend.requests
    assert (method, path, body) == ("POST", "/work?x=1", b"some text")
    assert (headers["Content-Type"], headers["X-Trace"]) == ("text/plain", "42")
    # Neither the caller's key nor what web process and gateway share reaches a service.
    assert not {name.lower() for name in headers} & {"x-api-key", "authorization", "cookie", "x-muster-pass"}


def test_what_the_service_answers_is_passed_on_as_it_is(client, make_workflow, olga, key, backend, running):
    workflow = make_workflow(service(port=backend.port))
    publish(workflow, olga)
    running.knows(workflow.pk)
    for status in (404, 500, 503):
        backend.answer = (status, b"{}")
        assert post(client, workflow, key).status_code == status


def test_a_workflow_that_cannot_be_used_answers_503_with_the_status(
    client, make_workflow, olga, key, running
):
    workflow = make_workflow(service(fate="starting"))
    publish(workflow, olga)
    answer = post(client, workflow, key)
    assert answer.status_code == 503
    assert answer.json()["actualStatus"] == "ORANGE"
    assert answer.json().keys() == status_of(client, workflow.pk, key).json().keys()
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    answer = post(client, workflow, key)
    assert (answer.status_code, answer.json()["desiredStatus"]) == (503, "UNPUBLISHED")


def test_without_a_gateway_the_answer_is_503(client, make_workflow, olga, key):
    workflow = make_workflow(service())
    publish(workflow, olga)
    answer = post(client, workflow, key)
    assert (answer.status_code, answer.json()["details"]["stream"]["status"]) == (503, "RED")


def test_a_gateway_that_is_gone_is_passed_over(client, make_workflow, olga, key, backend, running):
    Gateway.objects.create(
        url=f"http://127.0.0.1:{_free_port()}", seen_at=timezone.now() + timedelta(hours=1)
    )
    workflow = make_workflow(service(port=backend.port))
    publish(workflow, olga)
    running.knows(workflow.pk)
    assert [post(client, workflow, key).status_code for _ in range(6)] == [200] * 6
    assert len(backend.requests) == 6


def test_the_only_gateway_is_waited_for(client, make_workflow, olga, key, backend, running, monkeypatch):
    monkeypatch.setattr("workflows_app.runtime_api.GAP_SECONDS", 60)
    workflow = make_workflow(service(port=backend.port))
    publish(workflow, olga)
    url, port = running.url, running.server._port
    running.stop()
    Gateway.objects.create(url=url, seen_at=timezone.now() + timedelta(hours=1))
    later = threading.Timer(0.5, running.begin, (port,))
    later.start()
    assert post(client, workflow, key).status_code == 200
    later.join()


def test_an_instance_that_is_gone_is_passed_over(client, make_workflow, olga, key, backend, running):
    workflow = make_workflow(service(port=backend.port, replicas=3))
    publish(workflow, olga)
    gone = Replica.objects.order_by("pk")[:2]
    Replica.objects.filter(pk__in=[each.pk for each in gone]).update(
        address=f"http://127.0.0.1:{_free_port()}"
    )
    running.knows(workflow.pk)
    wait_until(lambda: len(set(running.server.routes.by_workflow[workflow.pk].addresses["entry"])) == 2)
    assert [post(client, workflow, key).status_code for _ in range(6)] == [200] * 6


def test_nobody_there_is_503_with_the_status(client, make_workflow, olga, key, running):
    workflow = make_workflow(service(port=_free_port()))
    publish(workflow, olga)
    running.knows(workflow.pk)
    answer = post(client, workflow, key)
    assert (answer.status_code, answer.json()["publishingMode"]) == (503, "SYNC")


def test_a_request_that_was_sent_is_never_sent_again(client, make_workflow, olga, key, backend, running):
    workflow = make_workflow(service(port=backend.port, replicas=2))
    publish(workflow, olga)
    running.knows(workflow.pk)
    backend.answer = (0, b"")
    assert post(client, workflow, key).status_code == 502
    assert len(backend.requests) == 1


def test_with_the_same_idempotency_key_a_service_is_asked_once(
    client, make_workflow, olga, key, backend, running
):
    workflow = make_workflow(service(port=backend.port))
    publish(workflow, olga)
    running.knows(workflow.pk)
    backend.answer = (200, b"\xff\x00")
    first, second = (post(client, workflow, key, HTTP_IDEMPOTENCY_KEY="once") for _ in range(2))
    assert (first.content, second.content) == (b"\xff\x00", b"\xff\x00")
    assert second["Idempotent-Replayed"] == "true"
    assert len(backend.requests) == 1
    assert post(client, workflow, key, b"other", HTTP_IDEMPOTENCY_KEY="once").status_code == 422
    backend.answer = (400, b"{}")  # what was refused may be sent again
    assert post(client, workflow, key, HTTP_IDEMPOTENCY_KEY="again").status_code == 400
    backend.answer = (0, b"")  # what broke off in between may not
    assert post(client, workflow, key, HTTP_IDEMPOTENCY_KEY="again").status_code == 502
    assert post(client, workflow, key, HTTP_IDEMPOTENCY_KEY="again").status_code == 409
    assert len(backend.requests) == 3


def test_a_service_that_takes_too_long_is_504(client, make_workflow, olga, key, backend, running):
    workflow = make_workflow(service(port=backend.port), request_seconds=1)
    publish(workflow, olga)
    running.knows(workflow.pk)
    backend.hold.clear()
    began = time.monotonic()
    assert post(client, workflow, key).status_code == 504
    assert time.monotonic() - began < 25


def test_large_bodies_are_refused(client, make_workflow, olga, key, backend, running, settings):
    settings.MUSTER_RUN_BODY_BYTES = 1000
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    workflow = make_workflow(service(port=backend.port))
    publish(workflow, olga)
    running.knows(workflow.pk)
    assert post(client, workflow, key, b"x" * 1001).status_code == 413
    backend.answer = (200, b"x" * 2000)
    assert post(client, workflow, key).status_code == 502


def test_running_needs_an_operator_and_the_workflow(client, make_workflow, olga, key, backend, running):
    from accounts_app.states import Role
    from tests.factories import make_key, make_user

    workflow = make_workflow(service(port=backend.port))
    publish(workflow, olga)
    viewer = {"HTTP_X_API_KEY": make_key(make_user("victor", Role.VIEWER)).token}
    assert post(client, workflow, viewer).status_code == 403
    assert post(client, workflow, {}).status_code == 401
    assert client.get(run_path(workflow), **key).status_code == 405
    assert client.post("/api/v1/runtime/workflow/none/action/run", **key).status_code == 404
    assert backend.requests == []


def fetch(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=data, headers=headers), timeout=30
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_services_reach_each_other_by_the_stream_and_nobody_elses(make_workflow, olga, backend, running):
    workflow = make_workflow(service(port=backend.port), service("words", port=backend.port))
    publish(workflow, olga)
    running.knows(workflow.pk)
    token = Deployment.objects.get().token
    assert fetch(f"{running.url}/stream/{token}/words/a%2Fb/c?d=e", b"x")[0] == 200
    assert backend.requests[-1][1] == "/a%2Fb/c?d=e"
    assert fetch(f"{running.url}/stream/{token}/words")[0] == 200
    assert backend.requests[-1][1] == "/"
    assert fetch(f"{running.url}/stream/wrong/words/")[0] == 404
    assert fetch(f"{running.url}/stream/{token}/nothing/")[0] == 503
    # The front entrance is the web process: it has asked who it is.
    assert fetch(f"{running.url}/run/{workflow.pk}", b"x")[0] == 403
    assert fetch(f"{running.url}/run/{workflow.pk}", b"x", **{"X-Muster-Pass": "guess"})[0] == 403


def test_the_stream_is_active_while_the_gateway_is(client, make_workflow, olga, key, running):
    workflow = make_workflow(service())
    publish(workflow, olga)
    assert status_of(client, workflow.pk, key).json()["details"]["stream"]["actual"] == 1
    running.stop()
    assert status_of(client, workflow.pk, key).json()["details"]["stream"]["actual"] == 0
    assert not Gateway.objects.exists()


# -- ASYNC --------------------------------------------------------------------------------------------


def test_an_analysis_is_queued_and_delivered_when_the_workflow_is_usable(
    client, make_workflow, olga, key, backend, running
):
    workflow = make_workflow(service(port=backend.port, fate="starting"), mode="ASYNC")
    publish(workflow, olga)
    answer = post(client, workflow, key, b"to be analysed")
    assert answer.status_code == 202
    body = answer.json()
    run = Run.objects.get(pk=body["run"])
    task = BackgroundTask.objects.get(pk=body["background_task"])
    assert (run.status, task.status) == ("queued", "started")
    running.knows(workflow.pk, usable=False)
    assert backend.requests == []
    services.update_workflow(workflow=workflow, actor=olga, services=[service(port=backend.port)])
    steps.reconcile()
    wait_until(lambda: Run.objects.get().status == RunStatus.SUCCEEDED, what="the delivery")
    ((_, _, headers, content),) = backend.requests
    assert (content, headers["X-Muster-Run"], headers["X-Muster-Attempt"]) == (
        b"to be analysed",
        str(run.pk),
        "1",
    )
    task.refresh_from_db()
    assert (task.status, task.message) == ("done", "The analysis is done.")
    shown = client.get(f"/api/v1/runs/{run.pk}", **key).json()
    assert (shown["status"], shown["answer_status"], json.loads(shown["answer"])) == (
        "succeeded",
        200,
        {"ok": True},
    )
    assert client.post(f"/api/v1/runs/{run.pk}/cancel", **key).status_code == 409


def test_an_unpublished_asynchronous_workflow_takes_nothing(client, make_workflow, olga, key):
    workflow = make_workflow(service(), mode="ASYNC")
    publish(workflow, olga)
    services.unpublish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    assert post(client, workflow, key).status_code == 503
    assert not Run.objects.exists()


def test_an_analysis_that_is_refused_has_failed_and_a_later_is_tried_again(
    client, make_workflow, olga, key, backend, running
):
    workflow = make_workflow(service(port=backend.port), mode="ASYNC")
    publish(workflow, olga)
    backend.answer = (422, b"no such language")
    post(client, workflow, key)
    wait_until(lambda: Run.objects.get().status == RunStatus.FAILED, what="the refusal")
    run = Run.objects.get()
    assert (run.error, run.answer_status) == ("The workflow answered 422.", 422)
    Run.objects.all().delete()
    backend.answer = (503, b"")
    post(client, workflow, key)
    wait_until(lambda: Run.objects.get().error == "The workflow answered 503.", what="the first attempt")
    backend.answer = (200, b"{}")
    wait_until(lambda: Run.objects.get().status == RunStatus.SUCCEEDED, what="the second attempt")
    assert Run.objects.get().attempts >= 2


def test_nothing_queued_is_lost_with_its_gateway(make_workflow, olga, backend):
    workflow = make_workflow(service(port=backend.port), mode="ASYNC")
    publish(workflow, olga)
    run = services.queue_run(workflow=workflow, actor=olga, body=b"x")
    (claimed,) = claim_due([workflow.pk], 10)
    assert claim_due([workflow.pk], 10) == []  # taken
    # That gateway dies; its claim lapses.
    Run.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    (second,) = claim_due([workflow.pk], 10)
    assert (second.claim, second.attempts) == (2, 2)
    # Whatever the first one still writes is refused.
    put_back(claimed, "late", 0)
    finish(claimed, Answer(200, {}, b""), "")
    run.refresh_from_db()
    assert (run.status, run.error) == ("queued", "")
    finish(second, Answer(200, {}, b"done"), "")
    run.refresh_from_db()
    assert (run.status, bytes(run.answer)) == ("succeeded", b"done")


def test_an_analysis_nobody_could_take_in_time_has_timed_out(make_workflow, olga):
    workflow = make_workflow(service(fate="starting"), mode="ASYNC", queue_seconds=60)
    publish(workflow, olga)
    run = services.queue_run(workflow=workflow, actor=olga, body=b"x")
    steps.sweep()
    run.refresh_from_db()
    assert run.status == "queued"
    Run.objects.update(expires_at=timezone.now())
    steps.sweep()
    run.refresh_from_db()
    assert (run.status, run.error) == ("timed_out", "The workflow was not usable in time.")
    assert BackgroundTask.objects.get(pk=run.background_task_id).status == "failed"


def test_a_queued_analysis_can_be_cancelled(client, make_workflow, olga, key):
    workflow = make_workflow(service(fate="starting"), mode="ASYNC")
    publish(workflow, olga)
    run = services.queue_run(workflow=workflow, actor=olga, body=b"x")
    answer = client.post(f"/api/v1/runs/{run.pk}/cancel", **key)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert BackgroundTask.objects.get(pk=run.background_task_id).status == "cancelled"
    with pytest.raises(InvalidTransition):
        services.cancel_run(run=Run.objects.get(), actor=olga)
    assert client.get("/api/v1/runs", {"workflow": workflow.pk}, **key).json()["count"] == 1


def test_old_runs_are_forgotten(make_workflow, olga):
    workflow = make_workflow(service(), mode="ASYNC")
    publish(workflow, olga)
    run = services.queue_run(workflow=workflow, actor=olga, body=b"x")
    services.cancel_run(run=run, actor=olga)
    steps.sweep()
    assert Run.objects.exists()
    Run.objects.update(finished_at=timezone.now() - timedelta(days=8))
    steps.sweep()
    assert not Run.objects.exists()
