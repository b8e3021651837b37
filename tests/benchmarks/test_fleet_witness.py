"""The request log is a witness: it finds contradictory actions, and only those."""

import json
import threading

import pytest
import requests

from benchmarks.fleet import check_witness
from benchmarks.measure import wait_for


def log_of(*requests_made, path):
    """Write a log of (bmc, received, at, reset type, pending) and read it with the checker."""
    with open(path, "w", encoding="utf-8") as log:
        for bmc, received, at, kind, pending, *more in requests_made:
            line = {
                "kind": "request",
                "bmc": bmc,
                "received": received,
                "left": None,
                "at": at,
                "method": "POST" if kind else "PATCH",
                "body": {"ResetType": kind} if kind else {"Boot": {}},
                "applied": True,
                "pending": pending,
            } | dict(*more)
            log.write(json.dumps(line) + "\n")
            log.write(json.dumps({"kind": "settled", "bmc": bmc, "at": at}) + "\n")
    return path


def kinds(path, **options):
    return [(one.kind, one.bmc, one.line) for one in check_witness(path, **options)]


def test_an_orderly_reboot_is_no_contradiction(tmp_path):
    log = log_of(
        ("a", 1, 1, "GracefulShutdown", None),
        ("a", 2, 2, "GracefulShutdown", "off"),
        ("a", 3, 3, "ForceOff", "off"),
        ("a", 9, 9, "", None),
        ("a", 10, 10, "On", None),
        ("a", 11, 11, "On", "on"),
        ("b", 1, 1, "On", None),
        path=tmp_path / "log",
    )
    assert kinds(log, reversals=1) == []


@pytest.mark.parametrize(
    ("pending", "order"),
    [
        ("off", "On"),
        ("on", "ForceOff"),
        ("on", "GracefulShutdown"),
        ("off", "ForceRestart"),
        ("restart", "On"),
    ],
)
def test_an_order_against_a_pending_one_is_crossed_even_when_refused(tmp_path, pending, order):
    log = log_of(("a", 1, 1, order, pending, {"applied": False}), path=tmp_path / "log")
    assert kinds(log) == [("crossed", "a", 1)]


def test_two_hands_at_one_bmc_overlap(tmp_path):
    log = log_of(
        ("a", 1.0, 1.5, "", None),
        ("a", 1.4, 1.9, "", None),
        ("b", 1.4, 1.9, "On", None),
        path=tmp_path / "log",
    )
    assert kinds(log) == [("overlapping", "a", 3)]


def test_who_gave_up_waiting_may_try_again(tmp_path):
    log = log_of(
        ("a", 1.0, 6.0, "On", "on", {"left": 2.0}), ("a", 3.0, 3.5, "On", None), path=tmp_path / "log"
    )
    assert kinds(log) == []


def test_a_late_action_after_the_node_settled_is_a_reversal(tmp_path):
    log = log_of(
        ("a", 1, 1, "ForceOff", None),
        ("a", 5, 5, "On", None),
        ("a", 9, 9, "ForceOff", None),
        path=tmp_path / "log",
    )
    assert kinds(log) == []
    assert kinds(log, reversals=1) == [("reversed", "a", 5)]


def test_the_fleet_writes_what_it_saw(fleet, tmp_path):
    log = tmp_path / "log"
    call = fleet("--count", "2", "--log", str(log))
    call.patch(0, {"BootSourceOverrideTarget": "Pxe"})
    call.reset(0, "On")
    wait_for(lambda: call.power(0) == "On")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["request", "request", "settled"]
    order = lines[1]
    assert {
        name: order[name] for name in ("bmc", "method", "body", "status", "applied", "before", "after")
    } == {
        "bmc": "x1000c0s0b0n0",
        "method": "POST",
        "body": {"ResetType": "On"},
        "status": 204,
        "applied": True,
        "before": "Off",
        "after": "PoweringOn",
    }
    assert lines[0]["received"] <= lines[0]["at"] <= order["received"] <= lines[2]["at"]
    assert kinds(log, reversals=0) == []


def test_a_contradiction_made_for_real_is_found(fleet, tmp_path):
    log = tmp_path / "log"
    call = fleet("--count", "2", "--log", str(log), "--on-seconds", "30")
    call.reset(1, "On")
    call.reset(1, "ForceOff")
    assert kinds(log) == [("crossed", "x1000c0s0b0n1", 2)]


def test_overlapping_requests_made_for_real_are_found(fleet, tmp_path):
    log = tmp_path / "log"
    call = fleet("--count", "1", "--log", str(log), "--delay", "1", "--by", "port")
    hands = [
        threading.Thread(target=requests.patch, args=(call.url(0),), kwargs={"json": {}}) for _ in range(2)
    ]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert kinds(log) == [("overlapping", "x1000c0s0b0n0", 2)]


def test_a_password_is_never_written(fleet, tmp_path):
    log = tmp_path / "log"
    call = fleet("--count", "1", "--log", str(log), "--auth", "basic", "--password", "hush-hush")
    login = {"UserName": "admin", "Password": "hush-hush"}
    call.http.post(call.url(0, "/redfish/v1/SessionService/Sessions"), json=login, timeout=20)
    call.http.auth = ("admin", "hush-hush")
    assert call.reset(0, "On").status_code == 204
    assert "ForceOff" not in log.read_text()
    assert "On" in log.read_text()
    assert "hush-hush" not in log.read_text()
