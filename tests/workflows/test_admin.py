"""The admin: by the same services as every other door; secrets are set and never read."""

from __future__ import annotations

import json

import pytest

from tests.workflows.conftest import service
from workflows_app import services, steps
from workflows_app.models import Deployment, Run, Runtime, Workflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client, olga):
    olga.is_staff = olga.is_superuser = True
    olga.save()
    client.force_login(olga)
    return client


def form(runtime, **values):
    return {
        "id": "by-hand",
        "name": "by hand",
        "description": "",
        "domain": "",
        "runtime": runtime.pk,
        "mode": "SYNC",
        "services": json.dumps([{"name": "entry", "image": "a:1", "port": 80}]),
        "entry": "",
        "entry_path": "/",
        "request_seconds": 60,
        "queue_seconds": 60,
        **values,
    }


def test_a_workflow_is_described_changed_and_published_by_hand(admin, fake):
    answer = admin.post("/admin/workflows_app/workflow/add/", form(fake))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    workflow = Workflow.objects.get(pk="by-hand")
    assert workflow.services[0]["progress_deadline_seconds"] == 600
    admin.post("/admin/workflows_app/workflow/", {"action": "publish", "_selected_action": ["by-hand"]})
    steps.reconcile()
    assert Deployment.objects.get().status == "published"
    changed = json.dumps([{"name": "entry", "image": "a:2", "port": 80}])
    answer = admin.post("/admin/workflows_app/workflow/by-hand/change/", form(fake, services=changed))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert Deployment.objects.get().revision.number == 2
    assert admin.get("/admin/workflows_app/workflow/by-hand/delete/").status_code == 403
    admin.post("/admin/workflows_app/workflow/", {"action": "unpublish", "_selected_action": ["by-hand"]})
    steps.reconcile()
    assert Deployment.objects.get().status == "unpublished"


@pytest.mark.parametrize(
    "specs", ["[{}]", '[{"name": "UPPER", "image": "a"}]', '{"a": 1}', "3", '[{"name":"a"},{"name":"a"}]']
)
def test_services_that_are_none_are_refused_beside_the_field(admin, fake, specs):
    answer = admin.post("/admin/workflows_app/workflow/add/", form(fake, services=specs))
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors
    assert not Workflow.objects.exists()


def test_a_runtimes_credentials_are_renewed_and_never_shown(admin, fake):
    path = f"/admin/workflows_app/runtime/{fake.pk}/change/"
    body = {
        "name": "fake",
        "kind": "fake",
        "settings": "{}",
        "new_secrets": '{"password": "hunter2-hunter2"}',
    }
    assert admin.post(path, body).status_code == 302
    assert Runtime.objects.get(pk=fake.pk).secrets() == {"password": "hunter2-hunter2"}
    assert b"hunter2" not in admin.get(path).content
    # Left empty, they stay.
    assert admin.post(path, {**body, "new_secrets": ""}).status_code == 302
    assert Runtime.objects.get(pk=fake.pk).secrets() == {"password": "hunter2-hunter2"}
    for wrong in (
        {"settings": '{"password": "open"}'},
        {"new_secrets": '{"refuses": "x"}'},
        {"new_secrets": "3"},
    ):
        assert admin.post(path, {**body, **wrong}).status_code == 200


@pytest.mark.parametrize("page", ["workflow", "runtime", "deployment", "revision", "run", "gateway"])
def test_every_page_opens(admin, make_workflow, olga, gateway, page):
    workflow = make_workflow(service(), mode="ASYNC")
    services.publish_workflow(workflow=workflow, actor=olga)
    steps.reconcile()
    services.queue_run(workflow=workflow, actor=olga, body=b"private text")
    listing = admin.get(f"/admin/workflows_app/{page}/")
    assert listing.status_code == 200
    rows = {"run": Run.objects.get().pk, "deployment": workflow.pk, "workflow": workflow.pk}
    if page in rows:
        shown = admin.get(f"/admin/workflows_app/{page}/{rows[page]}/change/")
        assert shown.status_code == 200
        assert b"private text" not in shown.content
        assert Deployment.objects.get().token.encode() not in shown.content


def test_a_queued_analysis_is_cancelled_by_hand(admin, make_workflow, olga):
    workflow = make_workflow(service(fate="starting"), mode="ASYNC")
    services.publish_workflow(workflow=workflow, actor=olga)
    run = services.queue_run(workflow=workflow, actor=olga, body=b"x")
    admin.post("/admin/workflows_app/run/", {"action": "cancel", "_selected_action": [str(run.pk)]})
    assert Run.objects.get().status == "cancelled"
