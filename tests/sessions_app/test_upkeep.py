"""What the options ask to be done now and then, and that they change what the engine does."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from sessions_app import steps, upkeep
from sessions_app.flow import Limits, poll_after
from sessions_app.models import BootSession, BosOptions, Node
from sessions_app.services_bos import set_options
from sessions_app.states import SessionStatus
from tests.contracts.bos import begin
from tests.factories import make_domain, make_node, make_session, make_template

pytestmark = pytest.mark.django_db


def ended(name: str, hours: int, domain=None) -> BootSession:
    node = make_node(domain=domain)
    session = make_session(make_template([node], name=name, domain=domain), name=name)
    session.move_to(SessionStatus.COMPLETE, stopped_at=timezone.now())
    BootSession.objects.filter(pk=session.pk).update(created_at=timezone.now() - timedelta(hours=hours))
    return session


def names() -> set[str]:
    return set(BootSession.objects.values_list("name", flat=True))


def test_old_complete_sessions_are_deleted_of_every_tenant():
    ended("old", 49)
    ended("new", 47)
    ended("theirs", 49, make_domain("blue"))
    running = begin(make_template([make_node()], name="running"), name="running")
    BootSession.objects.filter(pk=running.pk).update(created_at=timezone.now() - timedelta(days=99))
    for ttl in ("0", "0d"):
        set_options(values={"cleanup_completed_session_ttl": ttl}, actor=None)
        steps.keep_up()
    assert names() == {"old", "new", "theirs", "running"}
    set_options(values={"cleanup_completed_session_ttl": "2d"}, actor=None)
    steps.keep_up()
    assert names() == {"new", "running"}


def test_reports_are_not_believed_for_ever():
    node = make_node()
    begin(make_template([node]), "boot")
    node.refresh_from_db()
    Node.objects.update(actual=node.desired, actual_at=timezone.now() - timedelta(hours=3))
    assert upkeep.doubt_old_reports("4h") == 0
    assert upkeep.doubt_old_reports("2h") == 1
    node.refresh_from_db()
    assert (node.actual, node.actual_at, node.last_action) == (None, None, "actual_state_cleanup")


@pytest.fixture
def level():
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


def test_the_logging_level_is_applied(level, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        set_options(values={"logging_level": "error"}, actor=None)
    assert logging.getLogger().level == logging.ERROR


def test_the_polling_frequency_bounds_the_looks():
    often = Limits.of({**BosOptions.current(), "polling_frequency": 3}).poll
    assert [poll_after(elapsed, often) for elapsed in (0, 6, 30, 100, 1000)] == [1.0, 2.0, 3, 3, 3]
    seldom = Limits.of({**BosOptions.current(), "polling_frequency": 60}).poll
    assert poll_after(1000, seldom) == 60
    assert Limits.of({**BosOptions.current(), "polling_frequency": 0}).poll == 2.0
