"""import_bos: what HPE's CLI prints is taken over, once, and a dry run changes nothing."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from sessions_app.models import BootSession, BosOptions, Node, SessionTemplate
from tests.contracts.bos import begin
from tests.factories import make_template

pytestmark = pytest.mark.django_db

ARTIFACTS = {"kernel": "s3://k", "initrd": "s3://i", "kernel_parameters": "quiet"}
TEMPLATES = [
    {
        "name": "cle",
        "tenant": None,
        "enable_cfs": True,
        "cfs": {"configuration": "c"},
        "boot_sets": {
            "compute": {"path": "s3://m", "type": "s3", "node_list": ["x3000c0s19b1n0"], "arch": "X86"}
        },
    },
    {
        "name": "theirs",
        "tenant": "blue",
        "boot_sets": {"a": {"path": "s3://m", "type": "s3", "node_groups": ["g"]}},
    },
]
COMPONENTS = [
    {
        "id": "x3000c0s19b1n0",
        "actual_state": {
            "boot_artifacts": ARTIFACTS,
            "bss_token": "old",
            "last_updated": "2024-01-01T00:00:00",
        },
        "desired_state": {"boot_artifacts": ARTIFACTS, "bss_token": "", "configuration": "c"},
        "staged_state": {"boot_artifacts": {}, "session": ""},
        "enabled": True,
        "error": "",
        "event_stats": {"power_on_attempts": 1},
        "last_action": {"action": "powering_on", "failed": False},
        "session": "running-there",
        "status": {"phase": "", "status": "stable", "status_override": ""},
    },
    {"id": "x3000c0s19b2n0", "enabled": False, "error": "broken", "retry_policy": 7},
]
OPTIONS = {"max_boot_wait_time": 1500, "cleanup_completed_session_ttl": "3d", "forgotten_option": 1}
SESSIONS = [
    {
        "name": "done",
        "operation": "reboot",
        "template_name": "cle",
        "components": "x3000c0s19b1n0,x3000c0s19b2n0",
        "limit": "",
        "stage": False,
        "status": {
            "start_time": "2024-01-01T00:00:00",
            "end_time": "2024-01-01T00:10:00",
            "status": "complete",
            "error": None,
        },
    },
    {
        "name": "running-there",
        "operation": "boot",
        "template_name": "cle",
        "status": {"start_time": "2024-01-01T00:00:00", "end_time": None, "status": "running"},
    },
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    found = []
    for name, document in (
        ("sessiontemplates", TEMPLATES),
        ("components", COMPONENTS),
        ("options", OPTIONS),
        ("sessions", SESSIONS),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        found.append(str(path))
    return found


def state() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (SessionTemplate, Node, BootSession, BosOptions))


def test_everything_is_taken_over_once(files, capsys):
    call_command("import_bos", *files)
    said = capsys.readouterr().out
    assert "2 templates created" in said
    assert "2 components created" in said
    assert "note: session running-there is not complete there" in said
    assert "note: option forgotten_option" in said
    assert state() == (2, 2, 1, 1)
    assert SessionTemplate.objects.get(name="theirs").domain.name == "blue"
    node = Node.objects.get(name="x3000c0s19b1n0")
    assert (node.desired.kernel, node.actual, node.enabled, node.session) == (
        "s3://k",
        node.desired,
        False,
        None,
    )
    assert Node.objects.get(name="x3000c0s19b2n0").retry_policy == 7
    assert BosOptions.current()["max_boot_wait_time"] == 1500
    session = BootSession.objects.get()
    assert (session.status, session.total_nodes, session.template.name) == ("complete", 2, "cle")

    call_command("import_bos", *files)
    said = capsys.readouterr().out
    assert "2 templates unchanged" in said
    assert "2 components unchanged" in said
    assert "created" not in said
    assert "changed\n" not in said.replace("unchanged\n", "")
    assert state() == (2, 2, 1, 1)


def test_a_dry_run_says_what_it_would_do(files, capsys):
    call_command("import_bos", "--dry-run", *files)
    assert "2 templates would be created" in capsys.readouterr().out
    assert state() == (0, 0, 0, 0)


def test_a_bundle_is_read_whole(files, tmp_path, capsys):
    bundle = tmp_path / "bos-export.tgz"
    with tarfile.open(bundle, "w:gz") as archive:
        for path in files:
            archive.add(path, arcname=f"bos-export/{Path(path).name}")
    call_command("import_bos", str(bundle))
    assert state() == (2, 2, 1, 1)


def test_what_cannot_be_taken_over_is_named_and_the_rest_is(tmp_path, capsys):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps([*TEMPLATES, {"name": "bad", "boot_sets": {}}, {"something": "else"}]))
    with pytest.raises(CommandError, match="2 could not be taken over"):
        call_command("import_bos", str(path))
    said = capsys.readouterr().err
    assert "template bad" in said
    assert "nothing of BOS's" in said
    assert SessionTemplate.objects.count() == 2


def test_a_node_that_a_session_has_here_is_left_alone(files, capsys):
    node = Node.objects.create(name="x3000c0s19b1n0")
    begin(make_template([node], name="here"), "boot")
    node.refresh_from_db()
    before = node.desired
    call_command("import_bos", *files)
    assert "belongs to session" in capsys.readouterr().out
    node.refresh_from_db()
    assert node.desired == before


@pytest.mark.parametrize("content", ["{", ""])
def test_what_is_no_json_is_said_in_one_sentence(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(CommandError, match="is not JSON"):
        call_command("import_bos", str(path))
    with pytest.raises(CommandError, match="There is no file"):
        call_command("import_bos", str(tmp_path / "nowhere.json"))
