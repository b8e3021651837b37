"""BOS's options that say how long others are waited for: images, configurations, the inventory."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connection

from sessions_app import imagefaults, services, setup, steps, targets
from sessions_app.configuration import ansible
from sessions_app.drivers.http_files import Found, look_for
from sessions_app.models import BootSession
from sessions_app.reading import TooSlow, within
from sessions_app.services_bos import set_options
from tests.contracts.bos import BosClient
from tests.factories import make_node, make_olga, make_session, make_template

pytestmark = pytest.mark.django_db

COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


# -- images -------------------------------------------------------------------------------------------


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Serves images: a call with a status for each file gives the address of a folder; it notes who asked."""
    statuses: dict[str, int] = {}
    made: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(statuses.get(self.path, 200))
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(imagefaults, "_known", {})

    def folder(**files: int) -> str:
        made.append(f"/image-{len(made)}")
        statuses.update((f"{made[-1]}/{name}", status) for name, status in files.items())
        return f"http://127.0.0.1:{server.server_port}{made[-1]}"

    folder.asked = asked  # type: ignore[attr-defined]
    yield folder
    server.shutdown()
    server.server_close()


def started(folder: str) -> BootSession:
    """A session of one node with this image, after a look of the workers."""
    boot_set = {"path": f"{folder}/manifest.json", "type": "http", "node_list": [make_node().name]}
    session = make_session(make_template(body={"boot_sets": {"compute": boot_set}}), "reboot")
    steps.start_pending()
    session.refresh_from_db()
    return session


def test_files_that_are_there_let_a_session_begin_and_are_asked_for_once(images):
    folder = images()
    assert started(folder).status == "running"
    assert sorted(images.asked) == ["/image-0/initrd", "/image-0/kernel"]
    again = make_session(BootSession.objects.get().template, "reboot", name="again")
    steps.start_pending()
    again.refresh_from_db()
    assert (again.status, len(images.asked)) == ("running", 2)


def test_a_file_that_is_not_there_ends_the_session_before_any_node_is_touched(images):
    session = started(images(initrd=404))
    assert (session.status, session.result) == ("complete", "error")
    assert session.error.startswith("boot set 'compute': initrd http://")
    assert session.error.endswith("could not be found: the server answered 404.")
    assert not session.node_phases.exists()


@pytest.mark.parametrize("fatal", [False, True])
def test_a_file_that_can_not_be_asked_for_ends_it_where_that_is_wanted(images, fatal):
    set_options(values={"ims_errors_fatal": fatal}, actor=None)
    session = started(images(kernel=503))
    assert session.status == ("complete" if fatal else "running")
    assert ("the server answered 503" in session.error) is fatal


def test_a_server_that_says_nothing_is_waited_for_so_long():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/kernel"
        found = look_for([url], seconds=0.3)
    assert found == {url: Found(False, False, "no answer within 0.3 seconds")}


def test_the_option_says_how_long(images, monkeypatch):
    set_options(values={"ims_read_timeout": 12}, actor=None)
    waited: list[float] = []

    def note(urls: Any, *, seconds: float) -> dict[str, Found]:
        waited.append(seconds)
        return dict.fromkeys(urls, Found(True))

    monkeypatch.setattr(imagefaults, "look_for", note)
    assert started(images()).status == "running"
    assert waited == [12]


# -- the inventory ------------------------------------------------------------------------------------


def test_the_database_is_told_when_to_give_up_and_goes_on_after_it():
    make_node("x1c0s0b0n0")
    with pytest.raises(TooSlow, match=r"within 0\.2 seconds"), within(0.2), connection.cursor() as cursor:
        cursor.execute(COUNTING)
    assert make_node("x1c0s1b0n0").pk  # the transaction goes on, and nothing bounds it any more
    with within(30), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_an_inventory_that_is_too_slow_ends_the_session_with_that_reason(monkeypatch):
    session = make_session(make_template([make_node()]), "reboot")

    def slow(*args: Any, **more: Any) -> None:
        raise TooSlow("The inventory did not answer within 11 seconds.")

    monkeypatch.setattr(targets, "_choose", slow)
    assert setup.set_up_session(session.pk)
    session.refresh_from_db()
    assert (session.status, session.error) == ("complete", "The inventory did not answer within 11 seconds.")
    body = {"operation": "reboot", "template_name": "sample"}
    assert BosClient(make_olga()).ask("POST", "/v2/sessions", body).status_code == 503


def test_the_option_bounds_the_choice_of_nodes(monkeypatch):
    set_options(values={"hsm_read_timeout": 11}, actor=None)
    bounds: list[float] = []
    real = targets.within
    monkeypatch.setattr(targets, "within", lambda seconds: bounds.append(seconds) or real(seconds))
    template = make_template([make_node()])
    services.start_session(template=template, operation="reboot", actor=make_olga())
    assert bounds == [11]


# -- configurations -----------------------------------------------------------------------------------


def test_a_silent_repository_is_given_up(tmp_path, settings, monkeypatch):
    settings.MUSTER_CONFIGURATIONS = str(tmp_path)
    monkeypatch.setattr(ansible, "GIT_SECONDS", 10_000)  # what ends it is the silence
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/repository"
        (tmp_path / "quiet.json").write_text(json.dumps({"git": url}))
        with pytest.raises(ansible.SourceError, match="could not be fetched"):
            ansible.find("quiet", tmp_path, 1.0)


def test_nodes_are_waited_for_as_long(tmp_path, settings, monkeypatch):
    settings.MUSTER_CONFIGURATIONS, settings.HOME = str(tmp_path), tmp_path
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.yml").write_text("[]")
    told: dict[str, Any] = {}

    def run(**more: Any) -> Any:
        told.update(more)
        raise RuntimeError("enough")

    monkeypatch.setattr(ansible.ansible_runner, "run", run)
    driver = ansible.AnsibleConfiguration()
    driver.read_seconds = 33
    with pytest.raises(RuntimeError, match="enough"):
        driver.apply("site", ["x1"], wanted=lambda: True)
    assert told["envvars"]["ANSIBLE_TIMEOUT"] == "33"
