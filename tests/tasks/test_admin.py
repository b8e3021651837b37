"""The admin's pages of tasks: everything can be looked at, secrets can't, actions go through services."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts_app.models import User
from tasks_app import engine, services
from tasks_app.models import Run, StateVersion, TerraformState
from tasks_app.states import RunStatus
from tests.tasks.test_engine import make_task, tick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin(olga: User) -> Client:
    """Olga in the admin."""
    User.objects.filter(pk=olga.pk).update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(User.objects.get(pk=olga.pk))
    return client


@pytest.mark.parametrize("model", ["task", "run", "taskevent", "terraformstate"])
def test_lists_and_rows_can_be_looked_at(admin: Client, olga: User, model: str):
    task = make_task(olga)
    tick(task)
    engine.work()
    state = TerraformState.of("task_a", None)
    StateVersion.objects.create(state=state, serial=1, encrypted="sealed-content", md5="0" * 32)
    answer = admin.get(f"/admin/tasks_app/{model}/")
    assert answer.status_code == 200
    row: Any = answer.context["cl"].result_list[0]
    page = admin.get(f"/admin/tasks_app/{model}/{row.pk}/change/")
    assert page.status_code == 200
    assert b"sealed-content" not in page.content
    assert admin.get(f"/admin/tasks_app/{model}/add/").status_code == 403


def test_actions_run_and_cancel(admin: Client, olga: User):
    task = make_task(olga)
    post = {"action": "run_now", "_selected_action": [str(task.pk)]}
    assert admin.post("/admin/tasks_app/task/", post).status_code == 302
    run = Run.objects.order_by("-pk")[0]
    assert (run.status, run.trigger) == (RunStatus.QUEUED, {"kind": "manual", "by": "olga"})
    post = {"action": "cancel", "_selected_action": [str(run.pk)]}
    assert admin.post("/admin/tasks_app/run/", post).status_code == 302
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    # What can't be done is said, not raised.
    assert admin.post("/admin/tasks_app/run/", post, follow=True).status_code == 200
    with pytest.raises(services.InvalidTransition):
        services.cancel_run(run=run, actor=olga)
