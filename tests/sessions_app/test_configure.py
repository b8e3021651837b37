"""The configure phase: nodes go through a driver after their boot; one node's failure is its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
from django.db import connections
from django.utils import timezone

from sessions_app import configuring, services, work
from sessions_app.configuration import get_driver
from sessions_app.configuration.ansible import AnsibleConfiguration
from sessions_app.configuration.base import Outcome
from sessions_app.configuration.fake import FakeConfiguration
from sessions_app.models import BootSession, Node, NodePhase
from sessions_app.services_bos import set_options
from sessions_app.states import Category, SessionStatus
from tests.base import wait_until
from tests.contracts.bos import begin, move
from tests.factories import make_nodes, make_olga, make_template

NAMES = ["x1000c0s0b0n0", "x1000c0s0b0n1", "x1000c0s0b0n2"]


@pytest.fixture(autouse=True)
def fake(settings) -> type[FakeConfiguration]:
    settings.MUSTER_CONFIGURATION_DRIVER = "fake"
    FakeConfiguration.failing, FakeConfiguration.seconds = set(), 0.0
    FakeConfiguration.journal.clear()
    return FakeConfiguration


def booted(configuration: str = "site") -> BootSession:
    """A session whose nodes have booted and are to be configured."""
    session = begin(make_template(make_nodes(3), configuration=configuration), "boot")
    move(session, "boot", *NAMES, to=Category.SUCCEEDED)
    return session


def categories(session: BootSession) -> dict[str, str]:
    rows = NodePhase.objects.filter(session=session, phase__name="configure")
    return dict(rows.values_list("node__name", "category"))


@pytest.mark.django_db
def test_booted_nodes_are_configured_together():
    session = booted()
    assert set(categories(session).values()) == {"not_started"}
    assert work.claim_due(most=10, retry_policy=3) == []  # power's workers leave them alone
    assert configuring.run() == 3
    assert FakeConfiguration.journal == [("site", tuple(NAMES))]
    assert set(categories(session).values()) == {"succeeded"}
    assert set(Node.objects.values_list("actual_configuration", flat=True)) == {"site"}
    session.refresh_from_db()
    assert (session.status, session.result) == (SessionStatus.COMPLETE, "succeeded")
    assert configuring.run() == 0


@pytest.mark.django_db
def test_one_nodes_failure_is_its_own(fake):
    fake.failing = {NAMES[1]}
    set_options(values={"default_retry_policy": 2}, actor=None)
    session = booted()
    configuring.run()
    assert categories(session) == {NAMES[0]: "succeeded", NAMES[1]: "in_progress", NAMES[2]: "succeeded"}
    NodePhase.objects.filter(due_at__isnull=False).update(due_at=timezone.now())
    configuring.run()
    assert categories(session)[NAMES[1]] == "failed"
    assert fake.journal == [("site", tuple(NAMES)), ("site", (NAMES[1],))]
    node = Node.objects.get(name=NAMES[1])
    assert (node.failed, node.error, node.actual_configuration) == (True, "Told to fail.", "")
    session.refresh_from_db()
    assert (session.status, session.result) == (SessionStatus.COMPLETE, "failed")


@pytest.mark.django_db
def test_a_configuration_asked_for_by_name_is_applied_again():
    booted()
    configuring.run()
    session = begin(make_template(NAMES, name="again", configuration="site"), "configure")
    assert configuring.run() == 3
    assert len(FakeConfiguration.journal) == 2
    assert set(categories(session).values()) == {"succeeded"}


@pytest.mark.django_db
def test_a_driver_that_breaks_fails_its_nodes_only(monkeypatch):
    set_options(values={"default_retry_policy": 1}, actor=None)
    monkeypatch.setattr(FakeConfiguration, "apply", lambda *args, **kwargs: 1 / 0)
    session = booted()
    configuring.run()
    assert set(categories(session).values()) == {"failed"}


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_session_stops_the_run(fake):
    session = booted()
    fake.seconds = 600.0

    def work_on() -> None:
        try:
            configuring.run()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work_on)
    thread.start()
    wait_until(lambda: set(categories(session).values()) == {"in_progress"}, what="the run")
    services.cancel_session(session=session, actor=make_olga())
    thread.join(60)
    assert not thread.is_alive()
    assert set(categories(session).values()) == {"excluded"}
    assert set(Node.objects.values_list("actual_configuration", flat=True)) == {""}


# -- ansible --------------------------------------------------------------------------------------

PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  tasks:
    - name: Greet
      ansible.builtin.debug:
        msg: "I am {{ inventory_hostname }}"
    - name: Stumble
      ansible.builtin.fail:
        msg: "one of them stumbles"
      when: inventory_hostname == 'x1000c0s0b0n1'
"""


@pytest.fixture
def playbooks(settings, tmp_path) -> Path:
    settings.MUSTER_CONFIGURATION_DRIVER = "ansible"
    settings.MUSTER_CONFIGURATIONS = str(tmp_path / "configurations")
    settings.HOME = tmp_path / "home"
    folder = tmp_path / "configurations" / "site"
    folder.mkdir(parents=True)
    (folder / "site.yml").write_text(PLAYBOOK)
    return folder.parent


EXPECTED = {
    NAMES[0]: Outcome(),
    NAMES[1]: Outcome("Stumble: one of them stumbles"),
    NAMES[2]: Outcome(),
}


def apply(name: str) -> dict[str, Outcome]:
    driver = get_driver()
    assert isinstance(driver, AnsibleConfiguration)
    return driver.apply(name, NAMES, wanted=lambda: True)


def test_ansible_has_one_outcome_for_each_node_and_a_log(playbooks, settings):
    assert apply("site") == EXPECTED
    (log,) = (settings.HOME / "configuration" / "site").glob("*.log")
    assert f"I am {NAMES[2]}" in log.read_text()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_ansible_takes_a_playbook_from_git(playbooks, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(playbooks / "site", repository / "plays")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(repository), *command], check=True)
    described = {"git": f"file://{repository}", "playbook": "plays/site.yml"}
    (playbooks / "from-git.json").write_text(json.dumps(described))
    assert apply("from-git") == EXPECTED


def test_ansible_stops_when_nobody_wants_the_outcome(playbooks):
    (playbooks / "site" / "site.yml").write_text(
        "- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.pause: {seconds: 600}\n"
    )
    assert get_driver().apply("site", NAMES, wanted=lambda: False) == {}
    said = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [line for line in said if "muster-configure-" in line and "site.yml" in line] == []


@pytest.mark.parametrize("name", ["nosuch", "../site", "empty", "outside", "broken", "unreachable"])
def test_a_configuration_that_is_not_there_says_so(playbooks, name):
    (playbooks / "empty").mkdir()
    (playbooks / "broken.json").write_text("[]")
    (playbooks / "unreachable.json").write_text('{"git": "file:///nowhere/at/all"}')
    described = {"git": "file:///nowhere", "playbook": "../../etc/passwd"}
    (playbooks / "outside.json").write_text(json.dumps(described))
    outcomes = apply(name)
    assert set(outcomes) == set(NAMES)
    assert all("onfiguration" in said.error or "must hold" in said.error for said in outcomes.values())
