"""The examples of the two seeds about BOS, brought about on rows and asked for by HTTP."""

from __future__ import annotations

import re

import pytest

from sessions_app.models import BootSession
from sessions_app.states import Category, Step
from tests.contracts.bos import V1, V2, BosClient, begin, move
from tests.factories import make_node, make_olga, make_template

pytestmark = pytest.mark.django_db

FOUR = ["x3000c0s19b1n0", "x3000c0s19b2n0", "x3000c0s19b3n0", "x3000c0s19b4n0"]
CATEGORIES = ["not_started", "succeeded", "failed", "excluded", "in_progress"]
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")


@pytest.fixture
def bos() -> BosClient:
    return BosClient(make_olga())


@pytest.fixture
def failed_early() -> BootSession:
    """Seed 000's session: all four nodes failed to shut down."""
    session = begin(make_template([make_node(name) for name in FOUR], name="cle-1.3.0"))
    move(session, "shutdown", *FOUR, to=Category.FAILED, error="no answer")
    session.refresh_from_db()
    return session


def by_category(phase: dict) -> dict[str, list[str]]:
    return {category["name"]: category["node_list"] for category in phase["categories"]}


def test_sessions_are_listed_by_their_ids(bos, failed_early):
    assert bos.get(f"{V1}/session") == [str(failed_early.uuid)]
    assert bos.get("/v1/session") == [str(failed_early.uuid)]


def test_a_session_is_described_under_old_and_new_names(bos, failed_early):
    document = bos.get(f"{V1}/session/{failed_early.uuid}")
    assert document["status_link"] == f"/v1/session/{failed_early.uuid}/status"
    assert document["templateUuid"] == document["templateName"] == "cle-1.3.0"
    assert document["boa_job_name"] == document["job"] == f"boa-{failed_early.uuid}"
    assert (document["operation"], document["error_count"]) == ("reboot", 4)
    assert (document["complete"], document["in_progress"]) == (False, False)
    assert TIME.fullmatch(document["start_time"])


def test_the_status_of_a_session_links_to_its_boot_sets(bos, failed_early):
    document = bos.get(f"{V1}/session/{failed_early.uuid}/status")
    href = f"/v1/session/{failed_early.uuid}/status"
    assert document["boot_sets"] == ["compute"]
    assert document["id"] == str(failed_early.uuid)
    assert document["links"] == [
        {"href": href, "rel": "self"},
        {"href": f"{href}/compute", "rel": "Boot Set"},
    ]
    metadata = document["metadata"]
    assert (metadata["in_progress"], metadata["complete"], metadata["error_count"]) == (False, False, 4)


def test_a_boot_set_shows_its_phases_with_five_categories_each(bos, failed_early):
    document = bos.get(f"{V1}/session/{failed_early.uuid}/status/compute")
    href = f"/v1/session/{failed_early.uuid}/status/compute"
    assert [phase["name"] for phase in document["phases"]] == ["shutdown", "boot", "configure"]
    assert document["links"] == [
        {"href": href, "rel": "self"},
        *({"href": f"{href}/{name}", "rel": "Phase"} for name in ("shutdown", "boot", "configure")),
    ]
    assert (document["name"], document["session"]) == ("compute", str(failed_early.uuid))
    shutdown, boot, configure = document["phases"]
    for phase in document["phases"]:
        assert [category["name"] for category in phase["categories"]] == CATEGORIES
    assert by_category(shutdown)["failed"] == FOUR
    assert by_category(boot)["not_started"] == by_category(configure)["not_started"] == FOUR
    assert shutdown["metadata"]["complete"] is True
    assert shutdown["metadata"]["error_count"] == 4
    assert TIME.fullmatch(shutdown["metadata"]["stop_time"])
    assert boot["metadata"] == {
        "complete": False,
        "error_count": 0,
        "in_progress": False,
        "start_time": boot["metadata"]["start_time"],
    }
    metadata = document["metadata"]
    assert (metadata["in_progress"], metadata["complete"], metadata["error_count"]) == (False, False, 4)
    assert "stop_time" not in metadata


def test_a_phase_in_progress_and_its_category(bos):
    session = begin(make_template([make_node(name) for name in FOUR]))
    move(session, "shutdown", *FOUR, to=Category.IN_PROGRESS, step=Step.AWAIT_OFF)
    phase = bos.get(f"{V1}/session/{session.uuid}/status/compute/shutdown")
    assert [category["name"] for category in phase["categories"]] == CATEGORIES
    assert by_category(phase)["in_progress"] == FOUR
    assert set(phase["metadata"]) == {"complete", "error_count", "in_progress", "start_time"}
    assert (phase["metadata"]["in_progress"], phase["metadata"]["complete"]) == (True, False)
    assert phase["name"] == "shutdown"
    category = bos.get(f"{V1}/session/{session.uuid}/status/compute/shutdown/in_progress")
    assert category == {"name": "in_progress", "node_list": FOUR}
    same = bos.get(f"{V1}/session/{session.uuid}/status/compute/Shutdown/In_Progress")
    assert same == category


def test_a_complete_session_whose_only_node_failed(bos):
    session = begin(make_template([make_node("x3000c0s13b0n0")]), name="3d2e86d1")
    move(session, "shutdown", "x3000c0s13b0n0", to=Category.FAILED, error="Sample error message")
    BootSession.objects.filter(pk=session.pk).update(
        created_at="2022-08-22T16:50:50.120000Z", stopped_at="2022-08-22T16:51:10.110000Z"
    )
    assert bos.get(f"{V2}/sessions/3d2e86d1/status") == {
        "error_summary": {"Sample error message": {"count": 1, "list": "x3000c0s13b0n0"}},
        "managed_components_count": 1,
        "percent_failed": 100.0,
        "percent_staged": 0,
        "percent_successful": 0,
        "phases": {
            "percent_complete": 100.0,
            "percent_configuring": 0,
            "percent_powering_off": 0,
            "percent_powering_on": 0,
        },
        "status": "complete",
        "timing": {
            "duration": "0:00:20",
            "end_time": "2022-08-22T16:51:10",
            "start_time": "2022-08-22T16:50:50",
        },
    }
