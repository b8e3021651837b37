"""Filters that somebody named: kept for him, on his pages only."""

import pytest

from accounts_app.models import SavedFilter

pytestmark = pytest.mark.django_db


def save(client, **values):
    return client.post("/filters/", {"page": "nodes", "name": "broken", "query": "state=failed", **values})


def test_a_filter_is_kept_shown_and_forgotten_without_script(victor, olga, session):
    assert "Save this filter" in victor.get("/nodes/?state=failed&page=1").content.decode()
    assert save(victor, query="state=failed&page=3&tz=local")["Location"] == "/nodes/?state=failed"
    shown = victor.get("/nodes/?state=failed&tz=utc").content.decode()
    assert 'href="/nodes/?state=failed" aria-current="true"' in shown
    assert "Save this filter" not in shown
    assert "broken" not in olga.get("/nodes/").content.decode()
    assert "broken" not in victor.get("/sessions/").content.decode()
    kept = SavedFilter.objects.get()
    assert olga.post(f"/filters/{kept.pk}/forget").status_code == 404
    assert victor.post(f"/filters/{kept.pk}/forget")["Location"] == "/nodes/?state=failed"
    assert not SavedFilter.objects.exists()


def test_the_same_name_is_replaced(olga):
    save(olga)
    save(olga, query="role=Compute&state=off")
    assert SavedFilter.objects.get().query == "role=Compute&state=off"


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"name": "x" * 41},
        {"page": "keys"},
        {"page": "//elsewhere.example"},
        {"query": "page=2"},
    ],
)
def test_what_is_no_filter_is_not_kept(olga, values):
    assert save(olga, **values)["Location"] in {"/nodes/", "/"}
    assert not SavedFilter.objects.exists()
