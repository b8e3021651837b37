"""Trying to hit the wrong nodes: whatever changes between preview and click, only what was shown is hit."""

import re
import uuid

import pytest

from sessions_app import steps
from sessions_app.models import BootSession, Node, NodeGroup, NodePhase, SessionTemplate
from tasks_app.models import Run, Task
from tests.pages import rows
from workflows_app.models import Deployment, Workflow

pytestmark = pytest.mark.django_db

START = "/sessions/start"


def hidden(text):
    """What the last form of a page would send."""
    form = text[text.rindex("<form") : text.rindex("</form>")] if "<form" in text else text
    found = re.findall(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?', form)
    return {name: value for name, value in found if name != "csrfmiddlewaretoken"}


def preview(client, **values):
    shown = client.post(START, {"template": "compute-25.11", "operation": "reboot", **values})
    assert shown.status_code == 200
    text = shown.content.decode()
    form = text[text.index('name="digest"') - 30 : text.rindex("</form>")]
    return hidden(form) | {"confirm": "yes"}


def group_of(*names):
    group = NodeGroup.objects.create(name="rack")
    group.nodes.set(Node.objects.filter(name__in=names))
    return group


@pytest.fixture
def fleet(people):
    rows.make_fleet(16)
    return rows.make_template(node_roles_groups=[], node_groups=["rack"])


def test_a_node_that_joins_the_group_after_the_click_is_not_hit(olga, fleet):
    group = group_of("x1000c0s0b0n0", "x1000c0s0b0n1")
    olga.post(START, preview(olga))
    group.nodes.add(Node.objects.get(name="x1000c0s1b0n0"))
    steps.start_pending()
    session = BootSession.objects.get()
    assert session.components == "x1000c0s0b0n0,x1000c0s0b0n1"


def test_a_node_that_changed_its_boot_set_is_another_set(olga, fleet):
    group_of("x1000c0s0b0n0")
    body = {"node_list": ["x1000c0s0b0n1"], "kernel": "k", "initrd": "i"}
    # The second boot set has it as soon as it bears the role.
    sets = {
        "one": {**body, "node_groups": ["rack"]},
        "two": {**body, "node_list": [], "node_roles_groups": ["Storage"]},
    }
    SessionTemplate.objects.filter(pk=fleet.pk).update(body={"boot_sets": sets})
    Node.objects.filter(name="x1000c0s1b0n0").update(role="Storage")
    asked = preview(olga)
    Node.objects.filter(name="x1000c0s0b0n0").update(role="Storage")
    assert olga.post(START, asked).status_code == 409
    assert not BootSession.objects.exists()


def test_a_session_that_took_nodes_in_between_is_shown_first(olga, people, fleet):
    group = group_of("x1000c0s0b0n0", "x1000c0s0b0n1")
    asked = preview(olga)
    assert asked["takes_from"] == ""
    other = rows.make_session(
        list(group.nodes.all()), name="of-somebody-else", owner=people["ada"], through=0
    )
    answer = olga.post(START, asked)
    assert answer.status_code == 409
    assert "of-somebody-else" in answer.content.decode()
    assert BootSession.objects.count() == 1
    asked = preview(olga)
    assert asked["takes_from"] == str(other.uuid)
    # That it ends meanwhile takes nothing from anybody.
    Node.objects.update(enabled=False)
    assert olga.post(START, asked).status_code == 302


def test_a_double_click_and_the_button_back_start_one_session(olga, fleet):
    group_of("x1000c0s0b0n0")
    asked = preview(olga)
    first, second = olga.post(START, asked), olga.post(START, asked)
    session = BootSession.objects.get()
    assert first["Location"] == second["Location"] == f"/sessions/{session.uuid}/"
    assert "nothing was started twice" in olga.get(second["Location"]).content.decode()


def test_the_id_of_a_session_of_another_domain_starts_nothing(olga, people, fleet):
    from accounts_app.models import Domain

    group_of("x1000c0s0b0n0")
    other = rows.make_session(list(Node.objects.all()[4:6]), name="theirs", over=True, owns=False)
    BootSession.objects.filter(pk=other.pk).update(domain=Domain.objects.create(name="elsewhere"))
    answer = olga.post(START, preview(olga) | {"identity": str(other.uuid)})
    assert answer.status_code == 409
    assert "theirs" not in answer.content.decode()
    assert BootSession.objects.count() == 1


def test_two_tabs_each_start_what_they_show(olga, fleet):
    group_of("x1000c0s0b0n0", "x1000c0s0b0n1")
    one, both = preview(olga, nodes="x1000c0s0b0n0"), preview(olga)
    # The fingerprint of one tab does not open the other one's form.
    assert olga.post(START, both | {"digest": one["digest"]}).status_code == 409
    olga.post(START, one)
    assert BootSession.objects.get().limit == "x1000c0s0b0n0"


def test_a_filter_that_means_more_by_now_is_refused(olga, session):
    asked = preview(olga, pick="state=failed")
    Node.objects.filter(name="x1000c0s3b0n0").update(failed=True)
    assert olga.post(START, asked).status_code == 409
    assert BootSession.objects.count() == 2


def test_the_count_of_another_set_confirms_nothing(olga, people):
    rows.make_fleet(240)
    rows.make_template()
    asked = preview(olga, nodes="x1000c[0-3]")
    assert olga.post(START, asked | {"count": "238"}).status_code == 400
    assert not BootSession.objects.exists()
    assert olga.post(START, asked | {"count": "126"}).status_code == 302


def test_start_again_means_the_nodes_of_that_session(olga, session):
    text = olga.get(f"{START}?again={session.uuid}").content.decode()
    assert 'value="x1000c0s0b1n[0-1],x1000c0s[1-3]b[0-1]n[0-1]"' in text
    wrong = NodePhase.objects.filter(session=session, category="failed").select_related("node").first()
    text = olga.get(
        START, {"again": session.uuid, "operation": "boot", "error": wrong.error}
    ).content.decode()
    assert wrong.node.name in text
    assert "x1000c0s3b1n1" not in text
    for identity in ("nonsense", uuid.uuid4()):
        assert olga.get(START, {"again": identity}).status_code == 404


def test_retried_twice_the_counters_are_still_right(olga, session):
    path = f"/sessions/{session.uuid}/retry"
    asked = hidden(olga.get(path, headers={"hx-request": "true"}).content.decode())
    assert olga.post(path, asked).status_code == 302
    assert olga.post(path, asked).status_code == 409
    phase = session.boot_sets.get().phases.get(name="boot")
    assert phase.failed == 0
    assert phase.not_started == NodePhase.objects.filter(phase=phase, category="not_started").count()


# -- questions without nodes ---------------------------------------------------------------------------


def test_a_task_that_would_apply_at_once_by_now_is_asked_about_anew(olga, session):
    task = Task.objects.get(name="firewall")
    path = f"/tasks/{task.uuid}/run/apply"
    asked = hidden(olga.get(path, headers={"hx-request": "true"}).content.decode())
    task.document["auto_apply"] = True
    task.save()
    before = Run.objects.count()
    answer = olga.post(path, asked)
    assert answer.status_code == 409
    assert "applied at once" in answer.content.decode()
    assert olga.post(path).status_code == 409
    assert Run.objects.count() == before


def test_a_workflow_that_was_described_anew_is_not_published_unseen(olga, session):
    path = "/workflows/archive/publish"
    asked = hidden(olga.get(path, headers={"hx-request": "true"}).content.decode())
    workflow = Workflow.objects.get(pk="archive")
    workflow.services[0]["command"] = ["something", "else"]
    workflow.save()
    assert olga.post(path, asked).status_code == 409
    assert not Deployment.objects.filter(workflow=workflow).exists()
