"""Benchmarks of the product find what they need in it, and measure what they say."""

import json
import time

import pytest

from benchmarks import __main__ as command
from benchmarks import inside, traced
from benchmarks.emulation.options import mac, xname

SETTINGS = {"username": "admin", "password": "emulated"}


def nodes(count):
    return [
        {
            "xname": xname(number),
            "nid": number + 1,
            "mac": mac(number),
            "address": "http://127.0.0.1:9",
            "system": "/redfish/v1/Systems/1",
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("place", [place for places in traced.PARTS.values() for place in places])
def test_the_functions_whose_time_is_taken_exist(place):
    assert callable(traced.find(place))


@pytest.mark.django_db
def test_a_session_that_stands_still_has_nodes_in_every_state():
    assert inside.load(nodes=nodes(320), settings=SETTINGS) == 320
    inside.stand_still(name="bench")
    seen = inside.look(name="bench")
    assert (seen["status"], seen["total"], seen["seconds"]) == ("running", 320, None)
    assert seen["phases"]["shutdown"]["succeeded"] == 320
    assert seen["phases"]["boot"] == {
        "not_started": 0,
        "in_progress": 304,
        "succeeded": 0,
        "failed": 16,
        "excluded": 0,
    }
    assert seen["phases"]["configure"]["not_started"] == 320


@pytest.mark.django_db
def test_two_fleets_are_two_templates():
    inside.load(nodes=nodes(4)[:1], settings=SETTINGS, group="one")
    inside.load(nodes=nodes(4)[1:], settings=SETTINGS, group="three")
    inside.stand_still(name="one")
    inside.stand_still(name="three")
    assert [inside.look(name=name)["total"] for name in ("one", "three")] == [1, 3]


def test_statements_are_counted_by_their_verb(tmp_path):
    notes = traced.Notes(str(tmp_path / "notes"))
    for sql in ("SELECT 1", "UPDATE x", "  select 2", "BEGIN IMMEDIATE", "SAVEPOINT s"):
        assert notes.on_statement(lambda *_: "rows", sql, (), False, {}) == "rows"
    notes.write(now=True)
    (written,) = tmp_path.glob("notes.*.json")
    found = json.loads(written.read_text())
    assert found["statements"] == {"select": 2, "update": 1, "transaction": 2}
    assert found["texts"]["SELECT 1"][0] == 1


def test_a_part_does_not_contain_another(tmp_path):
    notes = traced.Notes(str(tmp_path / "notes"))

    def burn():
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    inner = notes.part("events", burn)
    notes.part("write", lambda: inner())()
    assert notes.parts["events"]["cpu"] >= 0.2
    assert notes.parts["write"]["cpu"] < 0.1
    assert notes.parts["events"]["calls"] == notes.parts["write"]["calls"] == 1


@pytest.mark.process
def test_a_whole_session_is_measured(tmp_path):
    assert command.main(["session", "--sizes", "6", "--results", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "session.json").read_text())
    rows = {row["name"].strip(): row for row in report["rows"]}
    assert rows["nodes not done"]["measured"] == 0
    assert rows["contradictory actions"]["measured"] == 0
    assert rows["reboot, 6 nodes: nodes per second and phase"]["measured"] > 0
    assert rows["worker: statements per node and phase"]["measured"] > 0
    assert rows["worker: share of driver"]["measured"] > 0
    assert rows["worker: share of events"]["measured"] > 0
    assert not [note for note in report["notes"] if "incomplete" in note]


@pytest.mark.process
def test_status_is_held_against_an_empty_answer(tmp_path):
    assert command.main(["status", "--sizes", "2", "--repeat", "1", "--results", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "status.json").read_text())["rows"]
    judged = [row for row in rows if row["within"] == 1.5]
    assert {row["name"].split(":")[0] for row in judged} == {"v1 status, 2 nodes", "v2 status, 2 nodes"}
    assert all(row["against"] == "empty answer" and row["ratio"] > 0 for row in judged)
