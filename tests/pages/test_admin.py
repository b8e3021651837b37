"""The admin: everything can be found, secrets go in and never come out, actions call the use cases."""

import json
import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client

from accounts_app.models import ApiKey
from accounts_app.services import find_key, issue_key
from accounts_app.states import Role
from events_app.models import BackgroundTask, LifecycleEvent
from events_app.signals import event_recorded
from sessions_app.models import Bmc, BootSession, Node
from tests.factories import make_domain
from tests.pages import rows

pytestmark = pytest.mark.django_db


def test_every_list_opens_and_can_be_searched(ada, session):
    for model, shown in admin.site._registry.items():
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert ada.get(path).status_code == 200, path
        if shown.search_fields:
            assert ada.get(f"{path}?q=x").status_code == 200, path


def test_rows_of_sessions_and_nodes_open_and_lead_to_their_pages(ada, session):
    text = ada.get(f"/admin/sessions_app/bootsession/{session.pk}/change/").content.decode()
    assert "reboot-after-maintenance" in text
    assert f"/sessions/{session.uuid}/" in ada.get("/admin/sessions_app/bootsession/").content.decode()
    node = session.nodes.first()
    assert f"/nodes/{node.name}/" in ada.get("/admin/sessions_app/node/").content.decode()


def test_credentials_are_written_and_never_read(ada, session):
    bmc = Bmc.objects.first()
    path = f"/admin/sessions_app/bmc/{bmc.pk}/change/"
    form = {
        "name": bmc.name,
        "kind": "fake",
        "address": bmc.address,
        "settings": "{}",
        "nodes-TOTAL_FORMS": "0",
        "nodes-INITIAL_FORMS": "0",
    }
    ada.post(path, {**form, "secrets": '{"password": "hunter2"}'})
    bmc.refresh_from_db()
    assert bmc.secrets() == {"password": "hunter2"}
    for page in (path, f"{path.removesuffix('change/')}history/", "/admin/sessions_app/bmc/", "/activity/"):
        assert "hunter2" not in ada.get(page).content.decode()
    ada.post(path, {**form, "secrets": ""})
    bmc.refresh_from_db()
    assert bmc.secrets() == {"password": "hunter2"}
    refused = ada.post(path, {**form, "settings": '{"delay": "soon"}'})
    assert refused.status_code == 200
    assert "hunter2" not in refused.content.decode()


def test_a_session_is_cancelled_by_the_use_case(ada, session):
    ada.post(
        "/admin/sessions_app/bootsession/",
        {"action": "cancel", "_selected_action": [session.pk]},
    )
    assert BootSession.objects.get(pk=session.pk).result == "cancelled"


def test_who_is_no_staff_has_no_admin(olga):
    assert olga.get("/admin/").status_code == 302


# -- staff who only look ---------------------------------------------------------------------------------


@pytest.fixture
def vera(people):
    """Support staff with a viewer's role."""
    user = rows.make_user("vera", Role.VIEWER, is_staff=True)
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    return client


def test_staff_who_may_read_see_everything_and_change_nothing(vera, session):
    for model, shown in admin.site._registry.items():
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        page = vera.get(path)
        assert page.status_code == 200, path
        for name in ("cancel", "retry", "resend", "rotate", "publish", "run_now", "power_cycle"):
            assert f'value="{name}"' not in page.content.decode(), (path, name)
        if shown.has_add_permission:
            assert vera.get(f"{path}add/").status_code in (403, 404), path
    bmc = Bmc.objects.first()
    assert vera.post(f"/admin/sessions_app/bmc/{bmc.pk}/change/", {"name": "x"}).status_code == 403
    assert vera.get("/admin/sessions_app/bmc/import/").status_code == 403
    vera.post("/admin/sessions_app/bootsession/", {"action": "cancel", "_selected_action": [session.pk]})
    assert BootSession.objects.get(pk=session.pk).status == "running"


def test_staff_of_a_tenant_see_nothing_for_the_admin_shows_all_tenants(people):
    user = rows.make_user("tess", Role.USER, is_staff=True, domain=make_domain())
    client = Client(headers={"accept": "text/html"})
    client.force_login(user)
    assert client.get("/admin/sessions_app/node/").status_code == 403


# -- what staff do ---------------------------------------------------------------------------------------


def act(client, path, action, row, **values):
    return client.post(f"/admin/{path}/", {"action": action, "_selected_action": [row.pk], **values})


def test_events_are_sent_again_as_repeats_that_start_nothing(ada, session):
    heard = []
    receiver = lambda event, **_: heard.append(event.name)  # noqa: E731
    event_recorded.connect(receiver)
    event = LifecycleEvent.objects.order_by("number").first()
    act(ada, "events_app/lifecycleevent", "resend", event)
    event_recorded.disconnect(receiver)
    again = LifecycleEvent.objects.get(repeats=event.number)
    assert again.number > event.number
    assert (again.name, again.data, again.domain) == (event.name, event.data, event.domain)
    assert event.name not in heard
    act(ada, "events_app/lifecycleevent", "resend", again)
    assert LifecycleEvent.objects.exclude(repeats=None).count() == 1


def test_new_credentials_of_bmcs_go_in_and_are_shown_nowhere(ada, session):
    bmc = Bmc.objects.first()
    asked = act(ada, "sessions_app/bmc", "rotate", bmc)
    assert "New credentials for 1 BMC" in asked.content.decode()
    done = act(ada, "sessions_app/bmc", "rotate", bmc, confirmed="yes", password="hunter3")
    assert done.status_code == 302
    bmc.refresh_from_db()
    assert bmc.secrets() == {"password": "hunter3"}
    refused = act(ada, "sessions_app/bmc", "rotate", bmc, confirmed="yes", username="x", password="hunter4")
    assert refused.status_code == 400  # fake BMCs know no user name
    bmc.refresh_from_db()
    assert bmc.secrets() == {"password": "hunter3"}
    exported = act(ada, "sessions_app/bmc", "export_json", bmc)
    for page in (refused, exported, ada.get("/admin/sessions_app/bmc/"), ada.get("/activity/")):
        assert "hunter" not in page.content.decode()


def test_a_rotated_key_is_shown_once_and_the_old_one_is_void(ada, people):
    issued = issue_key(user=people["olga"], actor=people["ada"], name="batch")
    text = act(ada, "accounts_app/apikey", "rotate", issued.key).content.decode()
    assert find_key(issued.token) is None
    new = ApiKey.objects.get(name="batch", revoked_at=None)
    token = re.search(rf"mst_{new.access_key}_\w+", text)[0]
    assert find_key(token) == new
    assert token not in ada.get("/admin/accounts_app/apikey/").content.decode()


def test_nodes_are_switched_from_the_admin_by_the_same_rule(ada, session):
    node = session.nodes.first()
    refused = ada.post(
        "/admin/sessions_app/node/", {"action": "power_cycle", "_selected_action": [node.pk]}, follow=True
    )
    assert f"session {session.name} is at work with" in refused.content.decode()
    Node.objects.update(session=None, enabled=False)
    act(ada, "sessions_app/node", "power_cycle", node)
    assert BootSession.objects.get(by_hand=True).operation == "cycle"


BOOT_SET = {"path": "s3://boot-images/a/manifest.json", "type": "s3", "node_roles_groups": ["Compute"]}
CRON = {"schedule": {"cron": "0 0 1 1 *"}}


@pytest.mark.parametrize(
    ("path", "exchanges", "first"),
    [
        ("sessions_app/bmc", "bmcs", {"name": "b9", "kind": "fake", "address": "", "settings": {}}),
        ("sessions_app/sessiontemplate", "templates", {"name": "t9", "boot_sets": {"compute": BOOT_SET}}),
        ("tasks_app/task", "tasks", {"name": "k9", "module": "./m", "condition": CRON, "enabled": True}),
        ("workflows_app/workflow", "workflows", None),
    ],
)
def test_what_is_exported_can_be_imported(ada, session, path, exchanges, first):
    model = apps.get_model(*path.split("/"))
    if first:
        made = ada.post(f"/admin/{path}/import/", {"text": json.dumps([first])})
        assert made.status_code == 302, made.content.decode()
    ids = [str(pk) for pk in model.objects.order_by("-pk").values_list("pk", flat=True)[:1]]
    data = {"action": "export_json", "_selected_action": ids}
    documents = json.loads(ada.post(f"/admin/{path}/", data).content)[exchanges]
    assert len(documents) == 1
    again = ada.post(f"/admin/{path}/import/", {"text": json.dumps({exchanges: documents})})
    assert again.status_code == 302, again.content.decode()
    task = BackgroundTask.objects.filter(kind=f"import_{exchanges}").latest("created_at")
    assert (task.status, task.owner.username) == ("done", "ada")
    before = model.objects.count()
    broken = ada.post(f"/admin/{path}/import/", {"text": json.dumps([*documents, {"x": 1}])})
    assert broken.status_code == 400
    assert model.objects.count() == before
