"""The admin: everything can be found, secrets go in and never come out, actions call the use cases."""

import pytest
from django.contrib import admin

from sessions_app.models import Bmc, BootSession

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
