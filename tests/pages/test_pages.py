"""Every page: who may see it, what it says, that it is whole HTML under the policy."""

import re

import pytest

from tasks_app.models import Task

pytestmark = pytest.mark.django_db

PAGES = [
    "/",
    "/sessions/",
    "/sessions/start",
    "/nodes/",
    "/tasks/",
    "/workflows/",
    "/activity/",
    "/activity/background/",
    "/keys/",
    "/search",
]


def pages_of(session):
    node = "x1000c0s0b1n0"
    return [
        *PAGES,
        f"/sessions/{session.uuid}/",
        *(f"/sessions/{session.uuid}/?tab={tab}" for tab in ("errors", "timeline", "log", "template")),
        f"/sessions/{session.uuid}/?node={node}",
        f"/sessions/{session.uuid}/?words=1",
        f"/sessions/{session.uuid}/cancel",
        f"/sessions/{session.uuid}/retry",
        f"/nodes/{node}/",
        "/nodes/?state=failed",
        f"/tasks/{Task.objects.get(name='firewall').uuid}/",
        f"/tasks/{Task.objects.get(name='firewall').uuid}/runs/7/",
        f"/tasks/{Task.objects.get(name='firewall').uuid}/runs/7/approve",
        f"/tasks/{Task.objects.get(name='firewall').uuid}/run/apply",
        f"/tasks/{Task.objects.get(name='dns-records').uuid}/disable",
        "/workflows/night-report/",
        "/workflows/archive/",
        "/workflows/archive/publish",
        "/workflows/night-report/rollback?revision=1",
        "/search?q=x1000c0",
        "/sessions/?q=boot&status=running&order=-failed",
    ]


def test_every_page_is_whole_and_without_inline_script_or_style(olga, session):
    for path in pages_of(session):
        response = olga.get(path)
        text = response.content.decode()
        assert response.status_code == 200, path
        assert "<title>" in text, path
        assert "</html>" in text, path
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", text), path
        assert not re.search(r"{{|{%", text), path
        policy = response["Content-Security-Policy"]
        assert "script-src 'self'" in policy, path
        assert "unsafe" not in policy, path


@pytest.mark.parametrize("path", PAGES)
def test_pages_work_with_nothing_there(olga, path):
    assert olga.get(path).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_who_is_not_signed_in_is_sent_to_the_login(client, db, path):
    response = client.get(path, headers={"accept": "text/html"})
    assert response.status_code == 302
    assert response["Location"].startswith("/login")


@pytest.mark.parametrize("path", PAGES)
def test_who_has_no_role_gets_a_403_page(nora, path):
    response = nora.get(path)
    assert response.status_code == 403
    assert "Not allowed" in response.content.decode()


def test_a_viewer_sees_no_action(victor, session):
    for path in ["/", "/sessions/", f"/sessions/{session.uuid}/", "/nodes/", "/nodes/x1000c0s0b1n0/"]:
        text = victor.get(path).content.decode()
        assert not re.search(r"/start|/retry|/cancel", text), path


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_viewer_may_not_act(victor, session, action):
    assert victor.get(f"/sessions/{session.uuid}/{action}").status_code == 403
    assert victor.post(f"/sessions/{session.uuid}/{action}").status_code in {403, 405}


def test_another_domains_session_is_not_there(olga, session):
    from accounts_app.models import Domain

    session.domain = Domain.objects.create(name="elsewhere")
    session.save()
    assert olga.get(f"/sessions/{session.uuid}/").status_code == 404
    assert str(session.uuid) not in olga.get("/sessions/").content.decode()


def test_a_page_of_nothing_is_a_404_that_says_so(olga):
    response = olga.get("/nodes/x1c1s1b1n1/")
    assert response.status_code == 404
    assert "Overview" in response.content.decode()


def test_programs_get_json_at_the_root(client, db):
    assert client.get("/").json()["manager"] == "muster"


def test_the_page_knows_where_the_stream_goes_on(olga, session):
    from events_app.models import EventCounter

    newest = EventCounter.objects.get(pk=1).last
    text = olga.get("/sessions/").content.decode()
    cursor = re.search(r'name="muster-cursor" content="([^"]+)"', text)[1]
    assert cursor.endswith(f":{newest}")
    assert "sessions%40" in cursor


def test_the_theme_is_kept_without_script(client):
    response = client.post("/preferences", {"theme": "dark", "next": "/login"})
    assert response["Location"] == "/login"
    assert 'data-theme="dark"' in client.get("/login").content.decode()


def test_preferences_lead_nowhere_else(client):
    assert client.post("/preferences", {"next": "https://elsewhere.example/"})["Location"] == "/"
