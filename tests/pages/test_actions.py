"""Actions of pages: they hit exactly what was shown, or nothing."""

import re

import pytest

from sessions_app.models import BootSession, Node, NodePhase
from tasks_app.models import Run, Task
from tests.pages import rows

pytestmark = pytest.mark.django_db


def hidden(text, name):
    return re.search(rf'name="{name}" value="([^"]*)"', text)[1]


def preview(client, **values):
    return client.post("/sessions/start", {"template": "compute-25.11", "operation": "reboot", **values})


# -- start ---------------------------------------------------------------------------------------------


def test_the_preview_names_what_is_hit_left_out_and_taken_over(olga, session):
    Node.objects.filter(name="x1000c0s3b1n1").update(locked=True)
    text = preview(olga).content.decode()
    assert "Reboot 13 nodes?" in text
    assert "locked" in text
    assert "x1000c0s3b1n1" in text
    assert "taken from the running session" in text
    assert "reboot-after-maintenance" in text
    assert BootSession.objects.count() == 2


def test_a_confirmed_preview_starts_exactly_that(olga, session):
    shown = preview(olga, nodes="x1000c0s[0-1]b1n0").content.decode()
    sent = {name: hidden(shown, name) for name in ("digest", "takes_from", "identity")}
    response = preview(olga, nodes="x1000c0s[0-1]b1n0", **sent, confirm="yes")
    started = BootSession.objects.latest("id")
    assert response["Location"] == f"/sessions/{started.uuid}/"
    assert sorted(started.limit.split(",")) == ["x1000c0s0b1n0", "x1000c0s1b1n0"]
    assert started.owner.username == "olga"


def test_a_set_that_changed_is_answered_by_409_and_starts_nothing(olga, session):
    shown = preview(olga).content.decode()
    Node.objects.filter(name="x1000c0s3b1n1").update(locked=True)
    response = preview(olga, digest=hidden(shown, "digest"), confirm="yes")
    assert response.status_code == 409
    assert "nothing was started" in response.content.decode()
    assert BootSession.objects.count() == 2


def test_above_a_hundred_nodes_the_count_must_be_typed(olga, people):
    rows.make_fleet(120)
    rows.make_template()
    shown = preview(olga).content.decode()
    digest = hidden(shown, "digest")
    assert "Type 118 to confirm" in shown
    assert preview(olga, digest=digest, confirm="yes").status_code == 400
    assert preview(olga, digest=digest, confirm="yes", count="117").status_code == 400
    assert BootSession.objects.count() == 0
    assert preview(olga, digest=digest, confirm="yes", count="118").status_code == 302
    assert BootSession.objects.count() == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"nodes": "x9999"}, "means no node"),
        ({"nodes": "x[1"}, "bracket"),
        ({"limit": "nobody"}, "nobody"),
        ({"nodes": "x1000", "limit": "all"}, "not both"),
        ({"name": "-bad-"}, "Letters, digits"),
        ({"template": "none-such"}, "valid choice"),
        ({"operation": "explode"}, "valid choice"),
    ],
)
def test_what_cannot_be_started_says_why(olga, session, values, says):
    response = preview(olga, **values)
    assert response.status_code == 400
    assert says in response.content.decode()


def test_a_filter_of_the_node_list_is_evaluated_anew(olga, session):
    shown = preview(olga, pick="state=failed").content.decode()
    assert "Reboot 2 nodes?" in shown
    Node.objects.filter(failed=True).update(failed=False)
    response = preview(olga, pick="state=failed", digest=hidden(shown, "digest"), confirm="yes")
    assert response.status_code == 400
    assert "No node fits the filter any more" in response.content.decode()


def test_a_viewer_cannot_start(victor, session):
    assert preview(victor).status_code == 403


# -- retry and cancel ----------------------------------------------------------------------------------


def test_retry_touches_the_failed_nodes_that_were_shown(olga, session):
    path = f"/sessions/{session.uuid}/retry"
    shown = olga.get(path).content.decode()
    assert "x1000c0s1b0n0, x1000c0s1b1n1" in shown
    olga.post(path, {"digest": hidden(shown, "digest")})
    assert not NodePhase.objects.filter(session=session, category="failed").exists()


def test_retry_of_another_set_than_shown_does_nothing(olga, session):
    path = f"/sessions/{session.uuid}/retry"
    shown = olga.get(path).content.decode()
    Node.objects.filter(name="x1000c0s1b0n0").update(session=None)
    response = olga.post(path, {"digest": hidden(shown, "digest")})
    assert response.status_code == 409
    assert "nothing was done" in response.content.decode()
    assert NodePhase.objects.filter(session=session, category="failed").count() == 2


def test_cancel_ends_the_session(olga, session):
    path = f"/sessions/{session.uuid}/cancel"
    shown = olga.get(path).content.decode()
    olga.post(path, {"digest": hidden(shown, "digest")})
    session.refresh_from_db()
    assert (session.status, session.result) == ("complete", "cancelled")
    assert olga.post(path, {"digest": hidden(shown, "digest")}).status_code == 409


def test_in_the_dialog_only_the_question_is_drawn(olga, session):
    text = olga.get(f"/sessions/{session.uuid}/cancel", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in text
    assert "Cancel reboot-after-maintenance?" in text


# -- tasks ---------------------------------------------------------------------------------------------


def test_a_waiting_plan_is_approved_or_discarded(olga, session):
    run = Run.objects.get(status="unconfirmed")
    path = f"/tasks/{run.task.uuid}/runs/{run.number}/"
    asked = olga.get(f"{path}approve").content.decode()
    assert "removes 1 resources" in asked
    discard = olga.get(f"{path}discard").content.decode()
    olga.post(f"{path}approve", {"digest": hidden(asked, "digest")})
    run.refresh_from_db()
    assert (run.status, run.approved_by) == ("confirmed", "olga")
    said = olga.post(f"{path}discard", {"digest": hidden(discard, "digest")}, follow=True).content.decode()
    assert "Nothing was done" in said


def test_a_run_is_asked_for(olga, session):
    task = Task.objects.get(name="load-balancer")
    path = f"/tasks/{task.uuid}/run/inspect"
    olga.post(path, {"digest": hidden(olga.get(path).content.decode(), "digest")})
    assert task.runs.filter(operation="inspect", status="queued").count() == 1


def test_a_viewer_decides_nothing(victor, session):
    run = Run.objects.get(status="unconfirmed")
    path = f"/tasks/{run.task.uuid}/runs/{run.number}/"
    assert victor.post(f"{path}approve").status_code == 403
    assert "approve" not in victor.get(path).content.decode()
    text = victor.get("/workflows/night-report/").content.decode()
    assert not re.search("unpublish|/scale|rollback", text)


# -- others --------------------------------------------------------------------------------------------


def test_the_audit_is_for_administrators(olga, ada, session):
    olga.post(f"/sessions/{session.uuid}/cancel", {"digest": "wrong"})
    assert olga.get("/activity/audit/").status_code == 403
    assert f"/sessions/{session.uuid}/cancel" in ada.get("/activity/audit/").content.decode()


def test_the_export_holds_the_filtered_nodes_and_no_secret(olga, session):
    Node.objects.get(name="x1000c0s0b0n0").bmc.set_secrets({"password": "hunter2"})
    response = olga.get("/nodes/export.csv?nodes=x1000c0s0")
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert lines[0].startswith("name,nid,mac")
    assert len(lines) == 5
    assert "hunter2" not in "".join(lines)


def test_one_exact_name_is_opened_by_the_search(olga, session):
    assert olga.get("/search?q=x1000c0s0b0n0")["Location"] == "/nodes/x1000c0s0b0n0/"


def test_the_search_finds_in_all_areas(olga, session):
    assert "firewall" in olga.get("/search?q=firewall").content.decode()
    assert "/workflows/night-report/" in olga.get("/search?q=night").content.decode()
    assert f"/sessions/{session.uuid}/" in olga.get("/search?q=maintenance").content.decode()
    assert "x1000c0s1b[0-1]n[0-1]" in olga.get("/search?q=x1000c0s1").content.decode()


def test_wrong_passwords_are_refused(client, people):
    answer = client.post("/login", {"username": "olga", "password": "wrong"})
    assert answer.status_code == 400
    assert "do not fit together" in answer.content.decode()


# -- by hand -------------------------------------------------------------------------------------------


def by_hand(client, action, **values):
    return client.post(f"/nodes/act/{action}", values)


def idle_fleet(count):
    nodes = rows.make_fleet(count)
    Node.objects.update(enabled=False, session=None, locked=False)
    return nodes


def test_an_action_by_hand_names_what_it_hits_and_hits_exactly_that(olga, people):
    idle_fleet(8)
    shown = olga.get("/nodes/act/cycle?nodes=x1000c0s[0-1]b0n0").content.decode()
    assert "Power cycle 2 nodes" in shown
    assert "x1000c0s[0-1]b0n0" in shown
    digest = hidden(shown, "digest")
    Node.objects.filter(name="x1000c0s1b0n0").update(locked=True)
    assert by_hand(olga, "cycle", nodes="x1000c0s[0-1]b0n0", digest=digest).status_code == 409
    assert not BootSession.objects.exists()
    Node.objects.update(locked=False)
    done = by_hand(olga, "cycle", nodes="x1000c0s[0-1]b0n0", digest=digest, network_boot="on")
    begun = BootSession.objects.get()
    assert done["Location"] == f"/sessions/{begun.uuid}/"
    assert (begun.by_hand, begun.network_boot, begun.total_nodes) == (True, True, 2)
    assert begun.name in olga.get("/sessions/?by=hand").content.decode()
    assert begun.name not in olga.get("/sessions/").content.decode()
    assert olga.get(f"/sessions/{begun.uuid}/").status_code == 200
    assert "power cycle" in olga.get("/nodes/x1000c0s0b0n0/").content.decode().lower()
    assert str(begun.uuid) in olga.get("/nodes/").content.decode()


def test_nodes_of_a_running_session_are_refused_by_its_name_taken_or_left_out(olga, session):
    refused = olga.get("/nodes/act/off?pick=all=1").content.decode()
    assert f"session {session.name} is at work with" in refused
    assert by_hand(olga, "off", pick="all=1").status_code == 409
    assert not BootSession.objects.filter(by_hand=True).exists()
    shown = olga.get("/nodes/act/off?pick=all=1&busy=take").content.decode()
    assert f"out of {session.name}" in shown
    by_hand(olga, "off", pick="all=1", busy="take", digest=hidden(shown, "digest"))
    assert BootSession.objects.get(by_hand=True).status == "running"
    assert BootSession.objects.get(pk=session.pk).open_nodes == 0


def test_above_a_hundred_nodes_an_action_by_hand_needs_the_typed_count(olga, people):
    idle_fleet(120)
    shown = olga.get("/nodes/act/off?pick=all=1").content.decode()
    assert "Type 120 to confirm" in shown
    digest = hidden(shown, "digest")
    assert by_hand(olga, "off", pick="all=1", digest=digest).status_code == 400
    assert by_hand(olga, "look", pick="all=1").status_code == 409  # even what changes nothing is shown first
    assert not BootSession.objects.exists()
    assert by_hand(olga, "off", pick="all=1", digest=digest, count="120").status_code == 302
