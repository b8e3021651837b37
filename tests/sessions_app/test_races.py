"""People and workers who ask for the same at the same moment: each has a connection of his own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from events_app.models import InvalidTransition
from sessions_app import counts, endings, services, services_status, setup, work
from sessions_app.models import BootSession, NodePhase
from sessions_app.services import Refused
from sessions_app.states import OPEN, SWITCHING, Category, Operation, SessionResult, SessionStatus
from tests.base import wait_until
from tests.factories import make_key, make_nodes, make_olga, make_session, make_template
from tests.racing import at_once, somebody_waits
from tests.sessions_app.test_engine import rows_agree_with_counters

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engine]


def owners() -> dict[str, list[str]]:
    """By node: the names of what is at work with it."""
    rows = NodePhase.objects.open().filter(session__status=SessionStatus.RUNNING)
    found: dict[str, set[str]] = {}
    for node, name, hand, operation in rows.values_list(
        "node__name", "session__name", "session__by_hand", "session__operation"
    ):
        if not hand or operation in SWITCHING:
            found.setdefault(node, set()).add(name)
    return {node: sorted(names) for node, names in found.items()}


def failed_session(count: int) -> BootSession:
    """A complete session all of whose nodes have failed to go off."""
    session = make_session(make_template(make_nodes(count)), Operation.SHUTDOWN)
    setup.set_up_session(session.pk)
    fail(work.claim_due(most=count, retry_policy=3))
    session.refresh_from_db()
    assert session.result == SessionResult.FAILED
    return session


def fail(claimed: Sequence[work.Work]) -> None:
    work.write([work.Done(one, work.Move(Category.FAILED, "", error="no")) for one in claimed])


def test_each_node_has_one_owner_when_sessions_and_actions_begin_at_once(redis_server):
    nodes = make_nodes(12)
    template = make_template(nodes)
    sessions = [make_session(template, name=name, limit=f"{nodes[0]},{nodes[3]}") for name in ("a", "b")]
    token = make_key(make_olga()).token

    def power(start: int) -> Callable[[], int]:
        names = [node.name for node in nodes[start : start + 4]]
        body = {
            "action": "on" if start % 2 else "off",
            "nodes": names,
            "busy": "take" if start % 3 else "refuse",
        }
        return lambda: (
            Client(headers={"authorization": f"Bearer {token}"})
            .post("/api/v1/nodes/power/", body, content_type="application/json")
            .status_code
        )

    found = at_once(
        *(power(start) for start in range(10)),
        *(lambda pk=one.pk: setup.set_up_session(pk) for one in sessions),
    )
    assert set(found[:10]) <= {202, 409}
    assert found[:10].count(202) > 0
    assert found[10:] == [True, True]
    by_node = owners()
    assert by_node
    assert {node: names for node, names in by_node.items() if len(names) > 1} == {}
    for session in BootSession.objects.all():
        assert rows_agree_with_counters(session)
        assert (
            session.open_nodes
            == NodePhase.objects.of_session(session.pk).open().values("node").distinct().count()
        )


def test_of_two_retries_at_once_one_tries_again():
    session = failed_session(6)

    def retry() -> int:
        return services.retry_failed(session=BootSession.objects.get(pk=session.pk), actor=None)

    found = at_once(retry, retry, retry)
    assert (
        sorted(str(one) for one in found if isinstance(one, Refused))
        == ["No failed node of this session can be tried again."] * 2
    )
    assert [one for one in found if not isinstance(one, Refused)] == [6]
    session.refresh_from_db()
    assert (session.status, session.open_nodes) == (SessionStatus.RUNNING, 6)
    assert rows_agree_with_counters(session)


@pytest.mark.parametrize("meanwhile", ["retry", "status", "sweep", "cancel"])
def test_a_worker_that_writes_and_whoever_takes_its_session_do_not_hold_each_other_up(monkeypatch, meanwhile):
    """The worker is stopped in the middle, with its rows locked, until the other waits for one of them."""
    session = make_session(make_template(make_nodes(6)), Operation.SHUTDOWN)
    setup.set_up_session(session.pk)
    claimed = work.claim_due(most=6, retry_policy=3)
    fail(claimed[:2])
    name = session.boot_sets.get().name
    node = claimed[2].node
    other: dict[str, Callable[[], Any]] = {
        "cancel": lambda: services.cancel_session(session=session, actor=None),
        "retry": lambda: services.retry_failed(session=session, actor=None),
        "sweep": endings.sweep,
        "status": lambda: services_status.update_boot_set(
            session_id=session.pk,
            boot_set=name,
            updates=[
                {
                    "update_type": "NodeChangeList",
                    "phase": "shutdown",
                    "data": {
                        "phase": "shutdown",
                        "source": "in_progress",
                        "destination": "excluded",
                        "node_list": [node],
                    },
                },
            ],
            actor=None,
        ),
    }
    written, held = counts.Counts.write, threading.Event()
    worker: list[threading.Thread] = []

    def write(self: Any, now: Any) -> None:
        if threading.current_thread() in worker and not held.is_set():
            held.set()
            if connection.vendor == "postgresql":
                wait_until(lambda: gone.is_set() or somebody_waits(), what="the other to wait")
        written(self, now)

    monkeypatch.setattr(counts.Counts, "write", write)
    gone = threading.Event()

    def go_on() -> None:
        worker.append(threading.current_thread())
        fail(claimed[2:])

    def come_between() -> Any:
        assert held.wait(60)
        try:
            return other[meanwhile]()
        finally:
            gone.set()

    answers = at_once(go_on, come_between)
    assert answers[0] is None, answers
    assert not isinstance(answers[1], Exception) or isinstance(answers[1], Refused | InvalidTransition), (
        answers
    )
    session.refresh_from_db()
    assert rows_agree_with_counters(session)
    open_rows = NodePhase.objects.of_session(session.pk).filter(category__in=OPEN)
    assert session.open_nodes == open_rows.values("node").distinct().count()
    assert (session.status == SessionStatus.RUNNING) == open_rows.exists()


def test_cancel_and_retry_at_once_leave_a_session_that_is_over_or_at_work():
    session = failed_session(4)
    services.retry_failed(session=session, actor=None, nodes=[session.components.split(",")[0]])

    def retry() -> Any:
        return services.retry_failed(session=BootSession.objects.get(pk=session.pk), actor=None)

    def cancel() -> Any:
        return services.cancel_session(session=BootSession.objects.get(pk=session.pk), actor=None)

    found = at_once(retry, cancel)
    assert not [one for one in found if isinstance(one, Exception) and not isinstance(one, Refused)], found
    session.refresh_from_db()
    rows = NodePhase.objects.of_session(session.pk).filter(category__in=OPEN)
    assert rows_agree_with_counters(session)
    assert (session.status == SessionStatus.RUNNING) == rows.exists()
    assert not rows.filter(due_at=None).exists()
